"""Switches of the model that no small size has on: a stem of convolutions, depth with its validity, another decoder."""

SWITCHES = {
    'stem': 'conv',
    'adapter_width': 4,
    'depth_validity': True,
    'decoder_queries': 'encoded',
    'context_positions': True,
    'cross_mlp': True,
}
