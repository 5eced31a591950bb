"""`m3et train`: a file for each model that can be trained; common.py holds what they share."""
