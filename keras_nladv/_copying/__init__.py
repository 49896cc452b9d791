"""Keras models copied call by call, and composite layers opened into the calls that they make."""
