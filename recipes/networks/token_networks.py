"""Networks of tokens, which are patches of images: what linear units save most in."""

from keras import layers


def vision_transformer(x, width, activation):
    """A small ViT: four blocks of attention and of feed-forward layers four times as wide.

    Args:
        x: Tensor of images.
        width: Number of channels.
        activation: Function of a name, makes an activation layer.
    """
    x = _patches(x, width)
    heads = max(width // 32, 2)
    for block in range(1, 5):
        y = layers.LayerNormalization()(x)
        y = layers.MultiHeadAttention(heads, max(width // heads, 1))(y, y)
        x = layers.add([x, y])
        x = layers.add([x, _mixed(x, 4 * width, activation(f"block{block}"))])
    return layers.LayerNormalization()(x)


def mixer(x, width, activation):
    """An MLP-Mixer (Tolstikhin et al. 2021) of the same size: tokens are mixed by layers, too."""
    x = _patches(x, width)
    for block in range(1, 5):
        y = layers.Permute((2, 1))(layers.LayerNormalization()(x))
        y = layers.Dense(2 * y.shape[-1])(y)
        y = layers.Dense(x.shape[1])(activation(f"block{block}_tokens")(y))
        x = layers.add([x, layers.Permute((2, 1))(y)])
        x = layers.add([x, _mixed(x, 4 * width, activation(f"block{block}"))])
    return layers.LayerNormalization()(x)


def _patches(x, width):
    """Tokens of patches. About eight by eight, with where they are in what a convolution adds."""
    size = max(round(max(x.shape[1:3]) / 8), 2)
    x = layers.Conv2D(width, size, strides=size, padding="same")(x)
    x = layers.add([x, layers.DepthwiseConv2D(3, padding="same")(x)])
    return layers.Reshape((-1, width))(x)


def _mixed(x, hidden, activation):
    y = activation(layers.Dense(hidden)(layers.LayerNormalization()(x)))
    return layers.Dense(x.shape[-1])(y)
