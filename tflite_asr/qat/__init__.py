"""Low-bit training of what is converted: the lowered float flatbuffer itself is made a network, op by op, whose weights
and activations pass TensorFlow Model Optimization's fake-quantisers on the very grids that the integer file has.

So the training sees the ops that run, and no other. What it gives is `quantize.trained.Trained`: weights by the names
of tensors, and ranges; the quantiser makes of these what it makes of any.
"""
