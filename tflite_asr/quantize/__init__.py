"""From a Keras model to a flatbuffer of floats or integers: convert, calibrate, quantise, finish, merge the
windows."""
