"""Every setting of a training run, stated once: its default and the reason for it, its meaning, and what it accepts.

The pipeline's signature, the console, the stages that are run alone, the jobs of `manifests/jobs`, the form of Kubeflow
Pipelines and the docstrings of the components take a setting from here, or are tested against it. The console imports
this at every start, so it imports nothing but the standard library.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.errors import InputError

PLAIN_VIEW = "resize256"  # what the classic recipe looks at, unless another view is asked for


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: Of the pipeline's parameter; the console's option is it with hyphens.
        default: Its type is the setting's type.
        group: Under which the console lists it.
        stages: The stages that take it.
        metavar: What the console's help puts in the place of the value.
        help: What it means, as a sentence.
        reason: Why the default is what it is; empty where it is obvious.
        choices: The values it accepts, where they are few.
        minimum: The smallest number it accepts.
        maximum: The largest number it accepts.
        brief: What the console's short help says of it; empty for a setting that only the whole help shows.
    """

    name: str
    default: str | int | float | bool
    group: str
    stages: tuple[str, ...]
    metavar: str
    help: str
    reason: str = ""
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    brief: str = ""

    @property
    def option(self) -> str:
        """The console's option."""
        return "--" + self.name.replace("_", "-")

    @property
    def accepted(self) -> str:
        """What it accepts, in words."""
        if self.choices:
            return " or ".join(filter(None, [", ".join(self.choices[:-1]), self.choices[-1]]))
        if isinstance(self.default, bool):
            return "true or false"
        kind = {int: "a whole number", float: "a number", str: "text"}[type(self.default)]
        least = "" if self.minimum is None else f" of at least {self.minimum:g}"
        return kind + least + ("" if self.maximum is None else f"{' and' if least else ' of'} at most {self.maximum:g}")

    def check(self, value: Any) -> None:
        """Check a value's type, and its range or choice; what a text means is for the stage that reads it.

        Args:
            value: To be set.

        Raises:
            InputError: It is not accepted.
        """
        kind = type(self.default)
        right = isinstance(value, kind) or (kind is float and isinstance(value, int) and not isinstance(value, bool))
        if kind is int and isinstance(value, bool):
            right = False
        if right and self.choices:
            right = value in self.choices
        if right and self.minimum is not None:
            right = self.minimum <= value and value == value
        if right and self.maximum is not None:
            right = value <= self.maximum
        if not right:
            raise InputError(f"{self.name} is {value!r}; it must be {self.accepted}: set it with {self.option}")


_SETTINGS = (
    Setting(
        "shards", 2, "Media", (), "COUNT",
        "Number of parts that extraction is cut into; on a cluster, each is a pod.",
        "A laptop extracts two parts at a time; a cluster as many as it has room for.",
        minimum=1, maximum=1000,
    ),
    Setting(
        "sampling", "even:8", "Media", ("extract",), "POLICY",
        "Which frames of a video are read: even:COUNT, rate:FRAMES_PER_SECOND or keyframes:COUNT.",
        "Eight frames cover a clip at a cost that does not grow with its length.",
        brief="frames of a video, such as even:8",
    ),
    Setting(
        "view", "crops256x5", "Media", ("extract",), "POLICY",
        "What the network sees of a picture: resizeSIZE, cropsSIZExCOUNT or bothSIZExCOUNT.",
        "The traces of generators are lost when a picture is made smaller; crops keep its resolution.",
        brief="such as resize256",
    ),
    Setting(
        "delivery", "as-is", "Media", ("extract",), "POLICY",
        "Whether every picture is rescaled and recompressed alike before the view: as-is or common[:PIXELS[:CODEC]].",
        "Recompression costs accuracy, and is only needed where both labels were delivered differently.",
        brief="as-is; common: recompress every file",
    ),
    Setting(
        "tiers", "clean,web,hard", "Media", ("extract",), "TIERS",
        "In which tiers of delivery each file is stored for training: clean,web,hard, or clean alone.",
        "Media arrive as platforms, messengers and second hands deliver them.",
        brief="clean,web,hard, or clean alone",
    ),
    Setting(
        "balance", "weights", "Dataset", ("preprocess",), "HOW",
        "How the labels are balanced in training: weights, undersample or none.",
        "Weights keep every file, where undersampling drops some.",
        choices=("weights", "undersample", "none"),
    ),
    Setting(
        "hold_out", "", "Dataset", ("preprocess",), "SOURCES",
        "Sources that are kept for the test split alone: source=NAME[,NAME]; empty for none.",
        brief="source=NAME: keep it for the test alone",
    ),
    Setting(
        "repair_split", False, "Dataset", ("preprocess",), "",
        "Whether files that leak across a given split are dropped, instead of refusing the split.",
        "Somebody should decide which files of their own split to lose.",
    ),
    Setting(
        "audit", "warn", "Dataset", ("preprocess",), "POLICY",
        "What happens where a shortcut separates the labels: warn or fail, or with a ROC AUC of one's own, fail:0.9.",
        "Collected media nearly always have a shortcut; the pages state what it is worth.",
    ),
    Setting(
        "backbone", "efficientnetb0", "Training", ("train",), "NAME",
        "Architecture of the network.",
        "EfficientNetB0 is accurate for its size and trains on any GPU.",
        choices=(
            "efficientnetb0", "efficientnetb1", "efficientnetb2", "efficientnetb3", "mobilenetv2", "resnet50",
        ),
        brief="such as mobilenetv2",
    ),
    Setting(
        "weights", "imagenet", "Training", ("train",), "FILE",
        "Weights that training starts from: imagenet, none (from scratch), or a weights file of the backbone.",
        "Pretrained layers need some thousand pictures where a fresh network needs some hundred thousand.",
        brief="imagenet, none or a file",
    ),
    Setting(
        "recipe", "deep", "Training", ("train",), "NAME",
        f"What the head reads: deep, features of all depths; plain, the top alone, and --view is {PLAIN_VIEW}.",
        "On reference media the deep recipe has the higher accuracy, clean and degraded.",
        choices=("deep", "plain"),
        brief="deep or plain",
    ),
    Setting(
        "epochs", 10, "Training", ("train",), "COUNT",
        "Number of epochs of phase 1, the backbone frozen; of the only phase where weights is none.",
        "The head converges within ten epochs.",
        minimum=1, maximum=10000, brief="of phase 1, the backbone frozen",
    ),
    Setting(
        "fine_tune_epochs", -1, "Training", ("train",), "COUNT",
        "Number of epochs of phase 2, the last layers unfrozen; -1 for the recipe's own: plain 10, or 0 "
        "where epochs is 1; deep 0.",
        "Recipes differ in whether phase 2 gains anything, and a single epoch is asked for to see a run through.",
        minimum=-1, maximum=10000, brief="of phase 2; -1 for the recipe's own",
    ),
    Setting(
        "unfreeze_layers", 20, "Training", ("train",), "COUNT",
        "Number of last layers that phase 2 trains, rounded out to whole blocks.",
        "Twenty layers are the last blocks, whose features are the least general.",
        minimum=1, maximum=10000,
    ),
    Setting(
        "batch_size", 32, "Training", ("train",), "VIEWS",
        "Number of views in a training step.",
        "32 fits any GPU and gives a small dataset enough steps.",
        minimum=1, maximum=65536,
    ),
    Setting(
        "learning_rate", 1e-3, "Training", ("train",), "RATE",
        "Learning rate of phase 1; phase 2 has the recipe's own.",
        "It is Adam's usual rate for a fresh head.",
        minimum=1e-8, maximum=10.0,
    ),
    Setting(
        "draws", 3, "Training", ("train",), "COUNT",
        "Number of times each view is drawn for training: first as it is, then augmented and degraded.",
        "One draw for each tier of delivery: clean, web and hard.",
        minimum=1, maximum=100,
    ),
    Setting(
        "training_degradations", -1.0, "Training", ("train",), "SHARE",
        "Share of training views that is degraded after the first draw; -1 for the recipe's own: plain 0, deep 1.",
        "The deep recipe is made for degraded media, the plain one is not.",
        minimum=-1.0, maximum=1.0,
    ),
    Setting(
        "consistency", 0.0, "Training", ("train",), "STRENGTH",
        "How strongly a view and its degraded draws are pulled to one logit; needs the deep recipe.",
        "Every strength above 0 has lowered the accuracy on reference media.",
        minimum=0.0, maximum=1e6,
    ),
    Setting(
        "last_component", "none", "Training", ("train", "evaluate"), "FILE",
        "Weights of an autoencoder (.npz) which makes fakes of real training pictures, for the deep recipe; or none.",
        "It halves what is confidently wrong on unknown sources, and costs accuracy and answers on known ones.",
    ),
    Setting(
        "activation_cache", True, "Training", ("train",), "",
        "Whether the output of the frozen layers is computed once and kept, instead of in every epoch.",
        "It makes an epoch several times faster.",
    ),
    Setting(
        "precision", "auto", "Training", ("train",), "NAME",
        "Number format of the backbone in training.",
        "auto takes what the GPU gains from.",
        choices=("auto", "float32", "mixed_float16", "mixed_bfloat16"),
    ),
    Setting(
        "test_degradations", "all", "Evaluation", ("evaluate",), "NAMES",
        "Degradations under which the detector is judged as well: all, none, or names such as jpeg:50,scale:0.5.",
        "Media are degraded on their way; clean figures alone flatter.",
        brief="all, none, or such as jpeg:50,blur:2",
    ),
    Setting(
        "cross_source", False, "Evaluation", ("evaluate",), "",
        "Whether each source is also left out of training in turn, to measure the detector on unknown sources.",
        "It takes minutes more.",
        brief="judge on left-out sources too",
    ),
    Setting(
        "families", "", "Evaluation", ("evaluate",), "NAMES",
        "Sources that are left out together, as NAME=SOURCE+SOURCE with commas between; empty for none.",
    ),
    Setting(
        "gate", "roc_auc+0.002,roc_auc>=0.85,balanced_accuracy>=0.75,false_positive_rate<=0.1,ece<=0.1",
        "Registry", ("register",), "GATE",
        "What promotes a detector: METRIC+MARGIN over the champion, then floors (METRIC>=X) and caps (METRIC<=X).",
        "Most media are real: more than one false alarm in ten is of no use to a moderator, and a probability that is "
        "off by more than 0.1 cannot be acted on.",
        brief="what promotes, such as roc_auc+0.002,ece<=0.1",
    ),
    Setting(
        "seed", 0, "Training", ("preprocess", "train"), "NUMBER",
        "Random seed of the split, the initial weights and augmentation.",
        minimum=0, maximum=2**31 - 1, brief="random seed",
    ),
    Setting(
        "model_name", "ai-vs-real", "Registry", ("evaluate", "register"), "NAME",
        "Name of the registered model.",
        brief="in the registry",
    ),
)  # fmt: skip
SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in _SETTINGS}
DEFAULTS: Mapping[str, Any] = {setting.name: setting.default for setting in _SETTINGS}


def names_of(stage: str) -> tuple[str, ...]:
    """Return the names of the settings that a stage takes.

    Args:
        stage: Such as "train".
    """
    return tuple(setting.name for setting in _SETTINGS if stage in setting.stages)


def check(values: Mapping[str, Any]) -> None:
    """Check the type and the range of some settings.

    Args:
        values: By name.

    Raises:
        InputError: A name is unknown, or a value is not accepted.
    """
    for name, value in values.items():
        if name not in SETTINGS:
            raise InputError(f"there is no setting {name!r}; the settings are {', '.join(SETTINGS)}")
        SETTINGS[name].check(value)


def completed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return some given settings with what they imply: the plain recipe brings its own view.

    Args:
        given: By name; those that are missing keep their defaults.
    """
    implied = {"view": PLAIN_VIEW} if given.get("recipe") == "plain" else {}
    return {**implied, **given}
