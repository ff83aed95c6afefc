"""Typed errors: each says what was wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class PyroLLMError(Exception):
    """Base class of every error that `pyro_llm` raises on purpose."""


class OptionError(PyroLLMError, ValueError):
    """An option of an algorithm has a value that it cannot have."""


class UnknownModelError(PyroLLMError, ValueError):
    """A model name is neither embedded, nor a folder, nor a file, nor an id that a hub could resolve."""


class ModelFolderError(PyroLLMError, ValueError):
    """A folder or file was given as a model and holds none that can be loaded."""


class RewardFormatError(ModelFolderError):
    """A model is in no reward format that is known, or lacks what its format needs, a separator token say."""


class PromptError(PyroLLMError, ValueError):
    """A prompt is no text, or has no tokens at all where a model needs one to start from."""


class ContextLengthError(PyroLLMError, ValueError):
    """A prompt, or a prompt with its continuation, does not fit the model's context."""


class UnknownStopError(PyroLLMError, ValueError):
    """A stop string is empty, or the vocabulary of the model cannot produce it."""


class CapabilityError(PyroLLMError, TypeError):
    """A language model lacks an optional capability (next-token logits, say) that the caller needs."""


class MissingExtraError(PyroLLMError, ImportError):
    """A feature needs a package that an optional extra of `pyro-llm` installs."""


class ConstraintError(PyroLLMError, ValueError):
    """A constraint on texts cannot be read, or no text that the vocabulary can write satisfies it."""


class ObservedTextError(PyroLLMError, ValueError):
    """A text cannot be a value of the distribution that it is observed from: too long, or running on after its end."""


class LogitsError(PyroLLMError, ArithmeticError):
    """A language model gave logits that are no distribution: NaN, or all minus infinity."""


class OutOfMemoryError(PyroLLMError, MemoryError):
    """There is not enough memory for a model to read even one text at a time."""


class RewardError(PyroLLMError, ValueError):
    """A reward returned NaN, a wrong shape, or a probability outside [0, 1], or gave nothing.

    Attributes:
        posterior: what the run that it ended had before the judgement that failed, where that was one of `SMC`,
            `Importance` or a search with vectorised particles; its `stopped_by` is `"reward"`. None otherwise. Not
            pickled.
    """

    posterior: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, {name: value for name, value in vars(self).items() if name != "posterior"}


class RewardFunctionError(RewardError, RuntimeError):
    """The function of a reward ran out of time, or its process ended, on a text that the message names."""


class CalibrationError(PyroLLMError, ValueError):
    """Scores and labels from which nothing can be calibrated: of one class only, say, or of different lengths."""


class CalibrationFileError(PyroLLMError, ValueError):
    """A file that was to hold a calibration holds none, or one of another reward."""


class FailedRunsError(PyroLLMError, RuntimeError):
    """Some of several runs failed; the others went on to their end.

    Attributes:
        outcomes: of all runs, in the order of the problems: posteriors and errors.
    """

    def __init__(self, message: str, outcomes: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.outcomes = list(outcomes)


class RemoteRewardError(RewardError, RuntimeError):
    """A remote reward could not be asked, or gave no scores.

    Attributes:
        texts: those that were not scored. The scores of all others are kept by the reward.
    """

    def __init__(self, message: str, texts: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.texts = texts


class RatingsError(PyroLLMError, ValueError):
    """Ratings that are none: a score outside [0, 1], shapes that do not fit, a rater that is not known."""


class VoteFileError(PyroLLMError, ValueError):
    """A file of votes cannot be read, or a line of it is no vote."""


class LowSampleSizeWarning(RuntimeWarning):
    """So few draws carry the weight after conditioning on something new that the result is not to be trusted."""


class BudgetWarning(RuntimeWarning):
    """A run has spent its budget, and ended with what it had."""


class AllParticlesDeadError(PyroLLMError, RuntimeError):
    """Every particle has weight zero, so there is nothing left to resample."""


class UnhealthyRunWarning(RuntimeWarning):
    """A run in progress has degenerated so far that the rest of it would be wasted; given once for each illness."""


class DeadRunWarning(RuntimeWarning):
    """Every particle of some run has weight zero; its estimate of the evidence is 0, and the other runs go on."""


class NonFiniteWeightError(PyroLLMError, ValueError):
    """A factor of the program is NaN or plus infinity."""


class NoWeightsError(PyroLLMError, TypeError):
    """Weights, or what is computed from them, were asked of the result of a search, which has none."""


class NoChainsError(PyroLLMError, TypeError):
    """What only Markov chains have was asked of a posterior that holds none."""


class NoScoresError(PyroLLMError, TypeError):
    """Scores were asked of a result whose particles have none."""


class NoModeError(PyroLLMError, TypeError):
    """The most probable value was asked of a distribution that does not say which it is."""


class BatchedBranchError(PyroLLMError, RuntimeError):
    """A program branches in Python on a tensor that holds one value per particle."""


class DuplicateSiteError(PyroLLMError, ValueError):
    """A program uses one site name twice in one execution."""


class NoDistributionError(PyroLLMError, TypeError):
    """A sample site was given something that is no distribution, a function that draws a value say."""


class ReplayError(PyroLLMError, RuntimeError):
    """A program did not repeat itself when replayed: other sites, another order, or other distributions."""


class HiddenRandomnessError(ReplayError):
    """A program drew random numbers outside its visible sample sites, so that replaying it is wrong."""


class PlateNestingError(PyroLLMError, ValueError):
    """Dimensions of the program stand where the particles are: plates that are not counted, or data without a plate."""


class OuterHandlerError(PyroLLMError, RuntimeError):
    """An algorithm was run inside a Pyro handler, which was meant for the program and would not reach it."""


class ProposalError(PyroLLMError, ValueError):
    """A proposal of a site is no distribution, has no log-probability, or is over other values than the site."""


class NoTextError(PyroLLMError, TypeError):
    """Texts were asked of a posterior whose program does not return a text state."""


class ProblemFileError(PyroLLMError, ValueError):
    """A line of a JSONL file is not what the file is to hold, a problem say."""


class OutputPathError(PyroLLMError, OSError):
    """A result cannot be written where it was asked for."""


class PosteriorFileError(PyroLLMError, ValueError):
    """A file that was to be loaded holds no posterior, or one that this version cannot read."""


class ResultsMismatchError(PyroLLMError, ValueError):
    """A file of results, to be continued, holds results of other problems or of other options."""


class StudyConfigError(PyroLLMError, ValueError):
    """A study's configuration names something that does not exist, or lacks or has what it should not."""


class StudyFolderError(PyroLLMError, ValueError):
    """A folder of results holds those of another study, or is in use, or holds none."""


class StudyWorkerError(PyroLLMError, RuntimeError):
    """A process of a study ended before it had done anything, or met an error that is no row's."""
