"""Cut a fetched model down to its main output, by Keras alone.

kerasweep fetch aux-outputs winner
python main_output.py winner/model.keras main.keras
"""

import sys

import keras


def main(model_path="winner/model.keras", destination="main.keras"):
    """Save the layers that lead to the output `main`, and only these."""
    whole = keras.models.load_model(model_path)
    model = keras.Model(whole.inputs, whole.get_layer("main").output)
    model.save(destination)
    print(f"{whole.count_params():,} parameters cut to {model.count_params():,}: {destination}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
