"""Networks for sound, series of measurements, video and point clouds."""

import keras
from keras import layers, ops

from tests.zoo.registry import specimen


@specimen
def wavenet():
    """Dilated causal convolutions with gates; residuals and skips."""
    inputs = keras.Input((None, 1))
    x = layers.Conv1D(4, 2, padding="causal")(inputs)
    skips = []
    for dilation in (1, 2):
        tanh = layers.Conv1D(4, 2, padding="causal", dilation_rate=dilation, activation="tanh")(x)
        gate = layers.Conv1D(4, 2, padding="causal", dilation_rate=dilation, activation="sigmoid")
        z = layers.Multiply()([tanh, gate(x)])
        skips.append(layers.Conv1D(3, 1)(z))
        x = layers.Add()([layers.Conv1D(4, 1)(z), x])
    x = layers.ReLU()(layers.Add()(skips))
    x = layers.Conv1D(5, 1, activation="relu")(x)
    return keras.Model(inputs, layers.Conv1D(3, 1, activation="softmax")(x))


@specimen
def temporal_convolutional_network():
    inputs = x = keras.Input((8, 2))
    for dilation, filters in ((1, 4), (2, 6)):
        shortcut = layers.Conv1D(filters, 1)(x)
        for _ in range(2):
            x = layers.Conv1D(filters, 3, padding="causal", dilation_rate=dilation)(x)
            x = layers.SpatialDropout1D(0.1)(layers.ReLU()(layers.LayerNormalization()(x)))
        x = layers.ReLU()(layers.Add()([x, shortcut]))
    return keras.Model(inputs, layers.Dense(2)(x[:, -1, :]))


@keras.saving.register_keras_serializable(package="zoo")
class OrthogonalRegularizer(keras.regularizers.Regularizer):
    def __init__(self, num_features, l2reg=0.001):
        self.num_features = num_features
        self.l2reg = l2reg

    def __call__(self, x):
        x = ops.reshape(x, (-1, self.num_features, self.num_features))
        xxt = ops.tensordot(x, x, axes=(2, 2))
        xxt = ops.reshape(xxt, (-1, self.num_features, self.num_features))
        return ops.sum(self.l2reg * ops.square(xxt - ops.eye(self.num_features)))

    def get_config(self):
        return {"num_features": self.num_features, "l2reg": self.l2reg}


@specimen
def pointnet():
    """Learnt transformations of points, and a maximum over them."""

    def conv_bn(x, filters):
        x = layers.Conv1D(filters, kernel_size=1, padding="valid")(x)
        return layers.Activation("relu")(layers.BatchNormalization(momentum=0.0)(x))

    def dense_bn(x, filters):
        x = layers.BatchNormalization(momentum=0.0)(layers.Dense(filters)(x))
        return layers.Activation("relu")(x)

    def tnet(inputs, num_features):
        bias = keras.initializers.Constant(ops.convert_to_numpy(ops.eye(num_features)).flatten())
        x = layers.GlobalMaxPooling1D()(conv_bn(inputs, 5))
        x = dense_bn(x, 4)
        x = layers.Dense(
            num_features * num_features,
            kernel_initializer="random_normal",
            bias_initializer=bias,
            activity_regularizer=OrthogonalRegularizer(num_features),
        )(x)
        return layers.Dot(axes=(2, 1))([inputs, layers.Reshape((num_features, num_features))(x)])

    inputs = keras.Input((6, 3))
    x = conv_bn(tnet(inputs, 3), 4)
    x = layers.GlobalMaxPooling1D()(conv_bn(tnet(x, 4), 6))
    x = layers.Dropout(0.3)(dense_bn(x, 4))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


@keras.saving.register_keras_serializable(package="zoo")
class CTCLayer(layers.Layer):
    def call(self, y_true, y_pred):
        lengths = [
            ops.shape(y)[1] * ops.ones((ops.shape(y_true)[0],), dtype="int32")
            for y in (y_true, y_pred)
        ]
        loss = ops.ctc_loss(y_true, ops.log(y_pred + 1e-7), *lengths, mask_index=0)
        self.add_loss(ops.mean(loss))
        return y_pred


@specimen
def crnn_with_ctc():
    """Text in images: convolutions, then recurrence along the width, then CTC in the model."""
    image = keras.Input((12, 4, 1), name="image")
    labels = keras.Input((2,), dtype="int32", name="label")
    x = layers.Conv2D(3, (3, 3), activation="relu", padding="same")(image)
    x = layers.MaxPooling2D((2, 2), name="pool1")(x)
    x = layers.Reshape(target_shape=(6, 2 * 3), name="reshape")(x)
    x = layers.Dropout(0.2)(layers.Dense(4, activation="relu", name="dense1")(x))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True, dropout=0.25))(x)
    x = layers.Dense(4, activation="softmax", name="dense2")(x)
    return keras.Model([image, labels], CTCLayer(name="ctc_loss")(labels, x), name="ocr_model_v1")


@specimen
def stacked_lstm():
    inputs = keras.Input((6, 3))
    x = layers.LSTM(4, return_sequences=True)(inputs)
    x = layers.TimeDistributed(layers.Dense(5, activation="relu"))(x)
    x, state = layers.GRU(3, return_state=True)(x)
    return keras.Model(inputs, layers.Dense(2)(layers.concatenate([x, state])))


@specimen
def next_frame_convlstm():
    inputs = keras.Input((None, 4, 4, 1))
    x = inputs
    for size in (3, 1):
        x = layers.ConvLSTM2D(2, size, padding="same", return_sequences=True, activation="relu")(x)
        x = layers.BatchNormalization()(x)
    x = layers.Conv3D(1, (3, 3, 3), activation="sigmoid", padding="same")(x)
    return keras.Model(inputs, x)


@specimen
def video_classifier():
    """A network for frames, as a model, at each time step."""
    frame = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(3, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
        ],
        name="frame",
    )
    inputs = keras.Input((3, 6, 6, 1))
    x = layers.TimeDistributed(frame)(inputs)
    x = layers.GRU(3)(layers.Dropout(0.4)(x))
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(4, activation="relu")(x)))


@specimen
def timeseries_transformer():
    inputs = x = keras.Input((6, 3))
    for _ in range(2):
        y = layers.MultiHeadAttention(key_dim=2, num_heads=2, dropout=0.1)(x, x)
        res = layers.LayerNormalization(epsilon=1e-6)(layers.Dropout(0.1)(y)) + x
        y = layers.Conv1D(filters=4, kernel_size=1, activation="relu")(res)
        y = layers.Conv1D(filters=x.shape[-1], kernel_size=1)(layers.Dropout(0.1)(y))
        x = layers.LayerNormalization(epsilon=1e-6)(y) + res
    x = layers.GlobalAveragePooling1D(data_format="channels_last")(x)
    x = layers.Dropout(0.1)(layers.Dense(4, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


@keras.saving.register_keras_serializable(package="zoo")
class GraphConv(layers.Layer):
    """Traffic forecasting: aggregates the neighbours' features, and combines them."""

    def __init__(self, in_feat, out_feat, edges, num_nodes, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.in_feat, self.out_feat = in_feat, out_feat
        self.edges, self.num_nodes = edges, num_nodes
        self.activation = keras.activations.get(activation)
        self.weight = self.add_weight(
            initializer=keras.initializers.GlorotUniform(),
            shape=(in_feat, out_feat),
            dtype="float32",
            trainable=True,
            name="weight",
        )

    def aggregate(self, neighbour_representations):
        return ops.segment_sum(
            neighbour_representations, ops.array(self.edges[0]), num_segments=self.num_nodes
        )

    def call(self, features):
        nodes_representation = ops.matmul(features, self.weight)
        neighbours = ops.take(features, ops.array(self.edges[1]), axis=0)
        aggregated = ops.matmul(self.aggregate(neighbours), self.weight)
        return self.activation(ops.concatenate([nodes_representation, aggregated], axis=-1))

    def get_config(self):
        return {
            **super().get_config(),
            "in_feat": self.in_feat,
            "out_feat": self.out_feat,
            "edges": self.edges,
            "num_nodes": self.num_nodes,
            "activation": keras.activations.serialize(self.activation),
        }


@keras.saving.register_keras_serializable(package="zoo")
class LSTMGC(layers.Layer):
    """A graph convolution at each time step, then an LSTM for each node."""

    def __init__(self, in_feat, out_feat, lstm_units, input_seq_len, edges, num_nodes, **kwargs):
        super().__init__(**kwargs)
        self.arguments = {
            "in_feat": in_feat, "out_feat": out_feat, "lstm_units": lstm_units,
            "input_seq_len": input_seq_len, "edges": edges, "num_nodes": num_nodes,
        }  # fmt: skip
        self.out_feat, self.input_seq_len = out_feat, input_seq_len
        self.graph_conv = GraphConv(in_feat, out_feat, edges, num_nodes, activation="relu")
        self.lstm = layers.LSTM(lstm_units, activation="relu")
        self.dense = layers.Dense(2)

    def call(self, inputs):
        inputs = ops.transpose(inputs, [2, 0, 1, 3])
        gcn_out = self.graph_conv(inputs)
        shape = ops.shape(gcn_out)
        num_nodes, batch_size, input_seq_len, out_feat = (shape[0], shape[1], shape[2], shape[3])
        gcn_out = ops.reshape(gcn_out, (batch_size * num_nodes, input_seq_len, out_feat))
        lstm_out = self.lstm(gcn_out)
        dense_output = self.dense(lstm_out)
        output = ops.reshape(dense_output, (num_nodes, batch_size, 2))
        return ops.transpose(output, [1, 2, 0])

    def get_config(self):
        return {**super().get_config(), **self.arguments}


@specimen
def traffic_forecast():
    inputs = keras.Input((4, 3, 1))
    edges = ((0, 1, 1, 2), (1, 0, 2, 1))
    x = layers.Dense(2, activation="relu")(inputs)
    return keras.Model(inputs, LSTMGC(2, 3, 4, 4, edges, 3)(x))
