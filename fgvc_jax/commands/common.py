"""The options of each command that people change most: --help shows these, --help-all all."""

COMMON = {
    "demo": ("--workdir", "--host", "--port", "--risk", "--calibrated"),
    "embed": (
        "--workdir", "--output", "--tap", "--normalize", "--network.name", "--network.weights",
    ),
    "evaluate": ("--workdir", "--source", "--by", "--unknown", "--tta", "--members", "--json"),
    "explain": ("--workdir", "--output", "--against", "--figure", "--score", "--calibrated"),
    "export": ("--workdir", "--format", "--output", "--precision", "--with-thumbnails", "--push"),
    "inspect": ("--data.source", "--data.validation", "--objective", "--output", "--clean"),
    "predict": (
        "--workdir", "--output", "--top", "--risk", "--calibrated", "--classes", "--unknown-rate",
        "--coarsen", "--neighbours", "--boxes", "--group", "--label-next",
    ),
    "report": ("--workdir", "--output", "--against", "--members"),
}  # fmt: skip
