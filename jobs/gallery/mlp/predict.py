"""Read a few test digits with a fetched model, by Keras alone.

kerasweep fetch mlp winner
python predict.py winner/model.keras
"""

import sys

import keras
from train import load_data

SHADES = " .:-=+*#%@"  # from blank paper to full ink


def draw(image):
    """The image, shape (height, width) with values from 0 to 1, as lines of text."""
    shades = (image * (len(SHADES) - 1)).round().astype(int)
    return ["".join(2 * SHADES[shade] for shade in row) for row in shades]


def main(model_path="winner/model.keras", count=5):
    """Draw the first `count` test images with what the model reads in each."""
    model = keras.models.load_model(model_path)
    images, classes = load_data()["test"]
    probabilities = model.predict(images[:count], verbose=0)
    for image, truth, scores in zip(images, classes, probabilities, strict=False):
        print("\n".join(draw(image)))
        print(f"read {scores.argmax()} ({scores.max():.0%} sure), truly {truth}\n")
    guesses = model.predict(images, verbose=0).argmax(axis=1)
    print(f"{(guesses == classes).mean():.1%} of {len(images)} test images read correctly")


if __name__ == "__main__":
    main(*sys.argv[1:2])
