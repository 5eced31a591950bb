"""The papers as thin assemblies of layers, without files, topics or clocks."""
