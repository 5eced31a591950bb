"""Networks of others: depth, segmentation and detection by transformers or OpenCV."""
