"""What an image costs in memory, from the shapes of the layers."""

from advcli.models.footprint import row_bytes
from tests.models.support import keras


def test_every_output_of_every_layer_counts_once_and_what_holds_none_does_not():
    k = keras()
    inner = k.Sequential([k.Input((8, 8, 4)), k.layers.Conv2D(2, 3), k.layers.ReLU()])
    x = inputs = k.Input((8, 8, 1))
    x = k.layers.Conv2D(4, 3, padding="same")(x)  # 256 values
    x = k.layers.Add()([x, k.layers.Dropout(0.5)(x)])  # 256
    x = k.layers.Flatten()(inner(x))  # 72 within, twice, and once as the inner model's own
    model = k.Model(inputs, k.layers.Dense(10)(x))  # 10
    values = 256 + 256 + 3 * 72 + 10
    assert row_bytes(model, (8, 8, 1)) == 4 * (values + 16 * 64)
