"""Calibration inputs without data: priors shaped like speech, pulled gently to what the model remembers.

Nothing is imported here: whoever unpickles `SyntheticInputs` needs neither Keras nor TensorFlow.
"""
