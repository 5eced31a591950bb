"""`m3et record`: episodes of the simulated kitchen as bags, with questions about them."""
