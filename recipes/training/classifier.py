"""How networks that classify images are compiled."""

import keras


def compile_classifier(model, optimizer="sgd", from_logits=True):
    """Compiles a model that is to be trained on images and their classes.

    Args:
        model: A Keras model.
        optimizer: `"sgd"` (Nesterov momentum 0.9 and weight decay 5e-4), `"adam"` or `"adamw"`
            (weight decay 0.05).
        from_logits: Whether the model returns logits, or else probabilities.
    """
    if optimizer == "sgd":
        # Attention throws SGD off at the rates that other layers like, unless steps are limited.
        attends = any(isinstance(x, keras.layers.MultiHeadAttention) for x in model.layers)
        optimizer = keras.optimizers.SGD(
            momentum=0.9, nesterov=True, weight_decay=5e-4, clipnorm=1.0 if attends else None
        )
    elif optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(weight_decay=0.05)
    else:
        optimizer = keras.optimizers.Adam()
    # Kernels alone decay: not biases and BatchNorm, as usual, and not the weights of SparsePReLU,
    # whose slopes decay would pull back to ReLU.
    optimizer.exclude_from_weight_decay(
        [v for v in model.trainable_variables if v.name != "kernel"]
    )
    # On processors, XLA's convolutions take longer than TensorFlow's own: see
    # benchmarks/recipe_speed.py.
    slower = keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")
    model.compile(
        jit_compile=False if slower else "auto",
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits),
        metrics=[
            "accuracy",
            # The loss without the pressure.
            keras.metrics.SparseCategoricalCrossentropy(
                from_logits=from_logits, name="cross_entropy"
            ),
        ],
    )
