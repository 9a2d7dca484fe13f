"""Turn a torch checkpoint into safetensors.

    python scripts/convert_weights.py IN.pth OUT.safetensors

Needs torch 2.10 or newer and safetensors, nothing of this project. The checkpoint is unpickled with
weights_only=True; before 2.10 even that could be made to run code.
"""

import argparse
import pickle
from collections.abc import Mapping


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", metavar="IN.pth")
    parser.add_argument("target", metavar="OUT.safetensors")
    arguments = parser.parse_args()

    try:
        import torch
        from safetensors.torch import save_file
    except ImportError as error:
        parser.exit(2, f"error: {error}: install torch>=2.10 and safetensors\n")
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 10):
        parser.exit(2, f"error: torch {torch.__version__} is not safe here: use 2.10 or newer\n")

    try:
        loaded = torch.load(arguments.source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        parser.exit(2, f"error: {arguments.source!r} is damaged or holds more than tensors\n")
    except Exception as error:  # zip and file errors of every kind
        reason = " ".join(str(error).split())[:200]
        parser.exit(2, f"error: cannot read {arguments.source!r}: {reason}\n")

    for key in ("state_dict", "model"):  # where training scripts wrap the weights
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(map(torch.is_tensor, loaded.values())):
        parser.exit(2, f"error: {arguments.source!r} is not a dictionary of tensors\n")

    # DataParallel puts `module.` in front of every name.
    tensors = {
        name.removeprefix("module."): tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in loaded.items()
    }
    save_file(tensors, arguments.target, metadata={"format": "pt"})
    print(f"{arguments.target}: {len(tensors)} tensors")


if __name__ == "__main__":
    main()
