"""Vision-language models that write text: ML-Mamba (2407.19832), EMMA (2410.05938) and MaTVLM (2503.13440).

All three are a connector before a causal language model; the image encoder is not part of them.

    language_model   Mamba-2, Phi, and Phi with Mamba-2 in some layers
    connectors       visual tokens -> vectors of the language model's width
    model            connector and language model in one
    generation       text token by token
    ml_mamba, emma (+ emma_alignment), matvlm     what each paper adds
    variants         the three at kitchen scale, behind M3ET
    import_weights   published checkpoints under our names
"""
