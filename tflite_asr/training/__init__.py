"""Training of CTC models on any Keras backend: recipe, data, augmentation, the loop."""
