"""The simulated kitchen: room, objects, person, planner, camera and renderers."""
