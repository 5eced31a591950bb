"""Vision-language models of transformers as answerers: folders, processors and the model itself."""
