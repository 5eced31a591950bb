"""The simulated kitchen: room, objects, planner, motion, camera and renderers."""
