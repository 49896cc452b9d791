from keras_nladv.constraints.fixed_mask import FixedMask as FixedMask
