"""The papers as thin assemblies of layers; knows no file, no topic, no clock."""
