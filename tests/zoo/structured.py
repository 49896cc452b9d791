"""Networks for tables, recommendations and graphs."""

import keras
import numpy as np
from keras import layers, ops

from tests.zoo.registry import specimen


@specimen
def two_tower_recommender():
    """Users and movies, embedded and multiplied."""

    def tower(name, size):
        ids = keras.Input((1,), dtype="int32", name=name)
        x = layers.Flatten()(layers.Embedding(size, 4, name=f"{name}_embedding")(ids))
        return ids, layers.Dense(3)(layers.Dense(5, activation="relu")(x))

    user, u = tower("user", 6)
    movie, m = tower("movie", 8)
    return keras.Model([user, movie], layers.Dot(axes=1)([u, m]))


@keras.saving.register_keras_serializable(package="zoo")
class RecommenderNet(keras.Model):
    """Collaborative filtering: a subclassed model of embeddings and biases."""

    def __init__(self, num_users, num_movies, embedding_size, **kwargs):
        super().__init__(**kwargs)
        self.arguments = {
            "num_users": num_users, "num_movies": num_movies, "embedding_size": embedding_size,
        }  # fmt: skip
        self.user_embedding = layers.Embedding(num_users, embedding_size)
        self.user_bias = layers.Embedding(num_users, 1)
        self.movie_embedding = layers.Embedding(num_movies, embedding_size)
        self.movie_bias = layers.Embedding(num_movies, 1)
        self.hidden = layers.Dense(5, activation="relu")

    def call(self, inputs):
        user_vector = self.user_embedding(inputs[:, 0])
        user_bias = self.user_bias(inputs[:, 0])
        movie_vector = self.hidden(self.movie_embedding(inputs[:, 1]))
        movie_bias = self.movie_bias(inputs[:, 1])
        dot_user_movie = ops.sum(user_vector * movie_vector, axis=1, keepdims=True)
        return ops.nn.sigmoid(dot_user_movie + user_bias + movie_bias)

    def get_config(self):
        return {**super().get_config(), **self.arguments}


@specimen
def collaborative_filtering():
    inputs = keras.Input((2,), dtype="int32")
    return keras.Model(inputs, RecommenderNet(6, 8, 5)(inputs))


@keras.saving.register_keras_serializable(package="zoo")
class DotInteraction(layers.Layer):
    """Products of all pairs of features."""

    def call(self, inputs):
        concat = ops.stack(inputs, axis=1)
        products = ops.matmul(concat, ops.transpose(concat, (0, 2, 1)))
        rows, columns = np.tril_indices(len(inputs), -1)
        flat = ops.reshape(products, (-1, len(inputs) ** 2))
        return ops.take(flat, rows * len(inputs) + columns, axis=1)


@specimen
def dlrm():
    dense = keras.Input((4,), name="dense")
    sparse = [keras.Input((1,), dtype="int32", name=f"sparse_{i}") for i in range(2)]
    bottom = layers.Dense(3, activation="relu")(layers.Dense(5, activation="relu")(dense))
    embedded = [ops.squeeze(layers.Embedding(7, 3)(ids), axis=1) for ids in sparse]
    x = layers.Concatenate()([bottom, DotInteraction()([bottom, *embedded])])
    x = layers.Dense(4, activation="relu")(x)
    return keras.Model([dense, *sparse], layers.Dense(1, activation="sigmoid")(x))


@specimen
def wide_and_deep():
    inputs = {
        "age": keras.Input((1,), name="age"),
        "hours": keras.Input((1,), name="hours"),
        "job": keras.Input((1,), name="job", dtype="int32"),
    }
    encoded = layers.CategoryEncoding(4, output_mode="one_hot")(inputs["job"])
    numbers = layers.concatenate([inputs["age"], inputs["hours"]])
    wide = layers.BatchNormalization()(layers.concatenate([numbers, encoded]))
    deep = layers.concatenate([numbers, layers.Embedding(4, 2)(inputs["job"])[:, 0]])
    for units in (6, 4):
        deep = layers.Dense(units)(deep)
        deep = layers.Dropout(0.1)(layers.ReLU()(layers.BatchNormalization()(deep)))
    merged = layers.concatenate([wide, deep])
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(merged))


@specimen
def deep_and_cross():
    inputs = keras.Input((6,))
    x0 = layers.BatchNormalization()(inputs)
    cross = x0
    for _ in range(2):
        units = cross.shape[-1]
        cross = x0 * layers.Dense(units)(cross) + cross
    deep = layers.Dense(5, activation="relu")(x0)
    merged = layers.concatenate([layers.BatchNormalization()(cross), deep])
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(merged))


@specimen
def tab_transformer():
    """Categories attend to each other; numbers join behind."""
    categories = [keras.Input((), dtype="int32", name=f"c{i}") for i in range(3)]
    numbers = [keras.Input((), name=f"n{i}") for i in range(2)]
    x = ops.stack([layers.Embedding(5, 4)(each) for each in categories], axis=1)
    x = x + layers.Embedding(3, 4)(ops.arange(start=0, stop=3, step=1))
    attention = layers.MultiHeadAttention(num_heads=2, key_dim=4, dropout=0.2)(x, x)
    x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([attention, x]))
    mlp = keras.Sequential(
        [
            layers.LayerNormalization(epsilon=1e-6),
            layers.Dense(4, activation=keras.activations.gelu),
            layers.Dropout(0.2),
        ],
        name="MLP",
    )
    x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([mlp(x), x]))
    numeric = layers.concatenate([ops.expand_dims(each, -1) for each in numbers])
    features = layers.concatenate([layers.Flatten()(x), layers.LayerNormalization()(numeric)])
    for units in (6, 4):
        features = layers.BatchNormalization()(features)
        features = layers.Dense(units, activation="selu")(features)
    return keras.Model([*categories, *numbers], layers.Dense(1, activation="sigmoid")(features))


@keras.saving.register_keras_serializable(package="zoo")
class GatedLinearUnit(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.linear = layers.Dense(units)
        self.sigmoid = layers.Dense(units, activation="sigmoid")

    def call(self, inputs):
        return self.linear(inputs) * self.sigmoid(inputs)

    def build(self, input_shape):
        self.linear.build(input_shape)
        self.sigmoid.build(input_shape)
        self.built = True

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="zoo")
class GatedResidualNetwork(layers.Layer):
    def __init__(self, units, dropout_rate, **kwargs):
        super().__init__(**kwargs)
        self.units, self.dropout_rate = units, dropout_rate
        self.elu_dense = layers.Dense(units, activation="elu")
        self.linear_dense = layers.Dense(units)
        self.dropout = layers.Dropout(dropout_rate)
        self.gated_linear_unit = GatedLinearUnit(units)
        self.layer_norm = layers.LayerNormalization()
        self.project = layers.Dense(units)

    def call(self, inputs):
        x = self.elu_dense(inputs)
        x = self.linear_dense(x)
        x = self.dropout(x)
        if inputs.shape[-1] != self.units:
            inputs = self.project(inputs)
        x = inputs + self.gated_linear_unit(x)
        return self.layer_norm(x)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "dropout_rate": self.dropout_rate}


@keras.saving.register_keras_serializable(package="zoo")
class VariableSelection(layers.Layer):
    def __init__(self, num_features, units, dropout_rate, **kwargs):
        super().__init__(**kwargs)
        self.num_features, self.units, self.dropout_rate = num_features, units, dropout_rate
        self.grns = [GatedResidualNetwork(units, dropout_rate) for _ in range(num_features)]
        self.grn_concat = GatedResidualNetwork(units, dropout_rate)
        self.softmax = layers.Dense(units=num_features, activation="softmax")

    def call(self, inputs):
        v = layers.concatenate(inputs)
        v = self.grn_concat(v)
        v = ops.expand_dims(self.softmax(v), axis=-1)
        x = [grn(each) for grn, each in zip(self.grns, inputs)]
        x = ops.stack(x, axis=1)
        return ops.squeeze(ops.matmul(ops.transpose(v, axes=[0, 2, 1]), x), axis=1)

    def get_config(self):
        names = ("num_features", "units", "dropout_rate")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@specimen
def gated_residual_network():
    inputs = [keras.Input((1,), name="wage"), keras.Input((2,), name="weeks")]
    encoded = [layers.Dense(3)(each) for each in inputs]
    x = VariableSelection(2, 4, 0.1)(encoded)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


@keras.saving.register_keras_serializable(package="zoo")
class NeuralDecisionTree(layers.Layer):
    def __init__(self, depth, used_features, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.depth = depth
        self.used_features = list(used_features)
        self.num_leaves = 2**depth
        self.num_classes = num_classes

    def build(self, input_shape):
        self.used_features_mask = np.eye(input_shape[-1], dtype="float32")[self.used_features]
        self.pi = self.add_weight(
            initializer="random_normal",
            shape=[self.num_leaves, self.num_classes],
            dtype="float32",
            trainable=True,
            name="pi",
        )
        self.decision_fn = layers.Dense(
            units=self.num_leaves, activation="sigmoid", name="decision"
        )
        self.decision_fn.build((None, len(self.used_features)))

    def call(self, features):
        batch_size = ops.shape(features)[0]
        features = ops.matmul(features, ops.transpose(self.used_features_mask))
        decisions = ops.expand_dims(self.decision_fn(features), axis=2)
        decisions = layers.concatenate([decisions, 1 - decisions], axis=2)
        mu = ops.ones([batch_size, 1, 1])
        begin_idx = 1
        end_idx = 2
        for level in range(self.depth):
            mu = ops.reshape(mu, [batch_size, -1, 1])
            mu = ops.tile(mu, (1, 1, 2))
            level_decisions = decisions[:, begin_idx:end_idx, :]
            mu = mu * level_decisions
            begin_idx = end_idx
            end_idx = begin_idx + 2 ** (level + 1)
        mu = ops.reshape(mu, [batch_size, self.num_leaves])
        probabilities = keras.activations.softmax(self.pi)
        return ops.matmul(mu, probabilities)

    def get_config(self):
        names = ("depth", "used_features", "num_classes")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="zoo")
class NeuralDecisionForest(layers.Layer):
    def __init__(self, num_trees, depth, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.num_trees, self.depth, self.num_classes = num_trees, depth, num_classes
        self.ensemble = [
            NeuralDecisionTree(depth, [i, i + 1, i + 2], num_classes) for i in range(num_trees)
        ]

    def build(self, input_shape):
        for tree in self.ensemble:
            tree.build(input_shape)

    def call(self, inputs):
        batch_size = ops.shape(inputs)[0]
        outputs = ops.zeros([batch_size, self.num_classes])
        for tree in self.ensemble:
            outputs += tree(inputs)
        return outputs / len(self.ensemble)

    def get_config(self):
        names = ("num_trees", "depth", "num_classes")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@specimen
def neural_decision_forest():
    inputs = keras.Input((5,))
    x = layers.Dense(4, activation="relu")(layers.BatchNormalization()(inputs))
    return keras.Model(inputs, NeuralDecisionForest(2, 2, 3)(x))


@keras.saving.register_keras_serializable(package="zoo")
class GraphConvLayer(layers.Layer):
    """Node classification: messages of neighbours, aggregated and combined."""

    def __init__(self, hidden_units, dropout_rate=0.2, normalize=False, **kwargs):
        super().__init__(**kwargs)
        self.arguments = {
            "hidden_units": hidden_units, "dropout_rate": dropout_rate, "normalize": normalize,
        }  # fmt: skip
        self.normalize = normalize
        self.ffn_prepare = self.create_ffn(hidden_units, dropout_rate)
        self.update_fn = self.create_ffn(hidden_units, dropout_rate)

    def create_ffn(self, hidden_units, dropout_rate):
        ffn = keras.Sequential()
        for units in hidden_units:
            ffn.add(layers.BatchNormalization())
            ffn.add(layers.Dropout(dropout_rate))
            ffn.add(layers.Dense(units, activation=keras.activations.gelu))
        return ffn

    def call(self, inputs):
        node_representations, adjacency = inputs
        messages = self.ffn_prepare(node_representations)
        aggregated = ops.matmul(adjacency, messages)
        embeddings = self.update_fn(ops.concatenate([node_representations, aggregated], axis=-1))
        if self.normalize:
            embeddings = ops.normalize(embeddings, axis=-1)
        return embeddings

    def get_config(self):
        return {**super().get_config(), **self.arguments}


@specimen
def graph_network():
    nodes = keras.Input((5, 3))
    adjacency = keras.Input((5, 5))
    x = layers.Dense(4, activation="gelu")(nodes)
    x = GraphConvLayer([4], name="graph_conv1")([x, adjacency]) + x
    x = GraphConvLayer([4], normalize=True, name="graph_conv2")([x, adjacency]) + x
    return keras.Model([nodes, adjacency], layers.Dense(3)(x))


@keras.saving.register_keras_serializable(package="zoo")
class EdgeNetwork(layers.Layer):
    """Message passing for molecules: a matrix for each bond, out of its features."""

    def build(self, input_shape):
        self.atom_dim = input_shape[0][-1]
        self.bond_dim = input_shape[1][-1]
        self.kernel = self.add_weight(
            shape=(self.bond_dim, self.atom_dim * self.atom_dim),
            initializer="glorot_uniform",
            name="kernel",
        )
        self.bias = self.add_weight(
            shape=(self.atom_dim * self.atom_dim,), initializer="zeros", name="bias"
        )
        self.built = True

    def call(self, inputs):
        atom_features, bond_features, neighbours = inputs
        bond_features = ops.matmul(bond_features, self.kernel) + self.bias
        bond_features = ops.reshape(bond_features, (-1, 4, self.atom_dim, self.atom_dim))
        neighbour_features = ops.matmul(neighbours, atom_features)
        neighbour_features = ops.expand_dims(neighbour_features, axis=-1)
        transformed = ops.matmul(bond_features, neighbour_features)
        return ops.relu(ops.squeeze(transformed, axis=-1))


@specimen
def message_passing_network():
    atoms, bonds = keras.Input((4, 3)), keras.Input((4, 2))
    neighbours = keras.Input((4, 4))
    x = EdgeNetwork()([atoms, bonds, neighbours])
    x = layers.Dense(5, activation="relu")(layers.concatenate([x, atoms]))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model([atoms, bonds, neighbours], layers.Dense(1, activation="sigmoid")(x))


@keras.saving.register_keras_serializable(package="zoo")
class NoisyDense(layers.Layer):
    """Exploration by noise, a reinforcement learner's: weights of its own, relu at its end."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer="random_normal")
        self.b = self.add_weight(shape=(self.units,), initializer="zeros", trainable=True)

    def call(self, inputs, training=None):
        return ops.relu(ops.matmul(inputs, self.w) + self.b)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@specimen
def actor_critic():
    """One trunk, two heads with names."""
    inputs = layers.Input(shape=(4,))
    common = layers.Dense(6, activation="relu")(NoisyDense(5)(inputs))
    action = layers.Dense(3, activation="softmax", name="action")(common)
    critic = layers.Dense(1, name="critic")(common)
    return keras.Model(inputs=inputs, outputs=[action, critic])


@specimen
def anomaly_autoencoder():
    x = inputs = keras.Input((8, 1))
    x = layers.Conv1D(4, 3, padding="same", strides=2, activation="relu")(x)
    x = layers.Dropout(rate=0.2)(x)
    x = layers.Conv1D(2, 3, padding="same", strides=2, activation="relu")(x)
    x = layers.Conv1DTranspose(2, 3, padding="same", strides=2, activation="relu")(x)
    x = layers.Conv1DTranspose(4, 3, padding="same", strides=2, activation="relu")(x)
    return keras.Model(inputs, layers.Conv1DTranspose(1, 3, padding="same")(x))
