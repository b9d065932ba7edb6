"""A student and windows -> the student trained, by transformers' Trainer: what is ours is what it asks and tells."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from explorer.deltas import Trained, Variant
from explorer.errors import DeviceError, ModifyError, first_line
from explorer.healing.recipe import Recipe
from explorer.healing.runs import Checkpoint, find_folder, list_checkpoints
from explorer.healing.student import NotFinite, Student
from explorer.healing.watcher import find_watcher, read_record
from explorer.healing.windows import TrainingWindows
from explorer.model import is_out_of_memory, slice_rows
from explorer.modifiers import Fitted, Setting
from explorer.processes import count_processes, is_first
from explorer.stopwatch import Stopwatch, standing_still, timing

_SCHEDULES = {"constant": "constant_with_warmup"}


@dataclass(frozen=True)
class Training:
    """One training, of one or several that a modifier makes.

    Args:
        setting: what the modifier works with.
        recipe: how it goes.
        student: what is trained.
        windows: what on.
        gather: returns what the modifier has made, with what the student is now.
        part: of several trainings, counted from 0.
    """

    setting: Setting
    recipe: Recipe
    student: Student
    windows: TrainingWindows
    gather: Callable[[], Fitted]
    part: int = 0

    @property
    def rows(self) -> int:
        """Windows that go through at once: as many as the model takes, and a step's are a multiple of.

        Raises ModifyError: those of a step cannot be shared out to as many processes as train.
        """
        most, processes = self.setting.run.fit_rows(self.windows.ids.shape[1]), count_processes()
        found = [each for each in range(1, most + 1) if self.recipe.batch % (each * processes) == 0]
        if not found:
            words = f"batch={self.recipe.batch} for {processes} of them"
            raise ModifyError("A step's windows cannot be shared out to processes", words, "Use a multiple for batch")
        return max(found)

    def run(self) -> Fitted:
        """Train, from the last checkpoint on if there is one; return what is made at the best checkpoint.

        Which is best, the windows kept apart tell.

        Raises:
            ModifyError: the loss is not finite, or a checkpoint cannot be written; those before it stay.
            DeviceError: one of several processes is out of memory.
            Cancelled: a watcher or the progress raised it; the checkpoints stay.
        """
        if self.recipe.steps == 0:
            return self.gather()
        folder = find_folder(
            self.setting.store, self.setting.loaded, self.setting.run.ids.shape[1], self.setting.origin
        )
        with tempfile.TemporaryDirectory(prefix="training-") as own, self._together(own) as passing:
            place = Path(passing) if folder is None else folder / str(self.part)
            known = list(list_checkpoints(place))
            start = next((each for each in known if each.step <= self.recipe.until), None)
            self.setting.seconds += start.seconds if start else 0.0
            if start is None or start.step < self.recipe.until:
                ahead = bool(known) and known[0].step > self.recipe.until  # of another that is to go further
                start = self._go_on(Path(passing) if ahead else place, start)
            elif self.recipe.until == self.recipe.steps:
                start.finish()
            self.student.load_state_dict(load_file(start.best))
        self._note(start)
        return self.gather()

    @contextmanager
    def _together(self, folder: str) -> Iterator[str]:
        """Have all processes that train use a folder of the first one, which waits at the end until none needs it."""
        if count_processes() == 1:
            yield folder
            return
        state = PartialState(cpu=self.setting.loaded.device.type == "cpu")
        (shared,) = broadcast_object_list([folder])
        yield shared
        state.wait_for_everyone()

    def _note(self, end: Checkpoint) -> None:
        """Note what this training took, behind those before it."""
        before, tokens = self.setting.trained, end.step * self.recipe.batch * self.windows.ids.shape[1]
        self.setting.trained = Trained(
            end.step + (before.steps if before else 0), end.best_step, tokens + (before.tokens if before else 0)
        )

    def make(self) -> Variant:
        """Return the variant with the student as it is now."""
        return self.setting.vary(self.gather())

    def _go_on(self, folder: Path, start: Checkpoint | None) -> Checkpoint:
        """Train from a checkpoint, or from the start, to where it is to stop."""
        _remove_torn(folder)
        loaded, ids = self.setting.loaded, self.setting.run.ids.size
        with _own_randomness(), torch.inference_mode(False), torch.enable_grad(), timing() as watch:
            trainer = _Trainer(self, folder, watch)
            try:
                with loaded.wrappers.counting() as count:
                    trainer.train(resume_from_checkpoint=None if start is None else str(start.folder))
                trainer.accelerator.wait_for_everyone()
            except NotFinite:
                raise self._explain(trainer.state.global_step, folder) from None
            except (RuntimeError, MemoryError) as error:
                if count_processes() == 1 or not is_out_of_memory(error):
                    raise
                found = f"{self.rows} windows of {self.windows.ids.shape[1]} tokens at once"
                remedy = "Use a smaller batch or window"  # halved here alone, the others would wait for ever
                raise DeviceError("Out of memory in one of several processes", found, remedy) from None
        self.setting.forwards += count.evaluations * self.windows.ids.shape[1] / (loaded.n_layers * ids)
        return next(list_checkpoints(folder))

    def _explain(self, step: int, folder: Path) -> ModifyError:
        last = next((each.step for each in list_checkpoints(folder)), None)
        remedy = "Use a smaller lr" + ("" if last is None else f", or until={last} for the last good checkpoint")
        return ModifyError("The loss is not finite", f"at step {step + 1} of {self.recipe.steps}", remedy)


def _remove_torn(folder: Path) -> None:
    """Remove checkpoints that were not written whole; of several processes the first does."""
    if not is_first():
        return
    whole = {each.folder for each in list_checkpoints(folder)}
    for path in folder.glob("checkpoint-*"):
        if path not in whole:
            shutil.rmtree(path)


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Leave the random numbers that are drawn after the block as they would be without it."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


class _Trainer(Trainer):
    """transformers' Trainer over a student, which judges by the windows kept apart and tells every step."""

    def __init__(self, training: Training, folder: Path, watch: Stopwatch) -> None:
        self.training, self.watch = training, watch
        trained, apart = (
            [{"rows": int(row)} for row in rows] for rows in (training.windows.order, training.windows.apart)
        )
        super().__init__(
            training.student,
            _arguments(training, folder),
            train_dataset=trained,
            eval_dataset=apart,
            callbacks=[_Teller(training)],
        )
        self.remove_callback(PrinterCallback)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Return the loss on the windows kept apart."""
        training, losses = self.training, list[float]()
        apart = torch.from_numpy(training.windows.apart)
        with torch.no_grad():
            for part in slice_rows(len(apart), training.rows):
                losses += [float(training.student(apart[part])["loss"])] * (part.stop - part.start)
        metrics = {"eval_loss": float(np.mean(losses))}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Note what a step or a checkpoint gave, and how fast it goes."""
        seen = (self.state.global_step - self._initial_global_step) * self.training.recipe.batch
        pace = {"seconds": self.watch.seconds, "tokens": seen * self.training.windows.ids.shape[1]}
        super().log({**logs, **pace, "rows": self.training.rows})

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._save_checkpoint(*args, **kwargs)
        except (OSError, RuntimeError, SafetensorError) as error:
            found = f"{self.args.output_dir} ({first_line(error)})"
            raise ModifyError(
                "Cannot write the checkpoint", found, "Free some space, or name another --cache"
            ) from error


def _arguments(training: Training, folder: Path) -> TrainingArguments:
    recipe = training.recipe
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=recipe.steps,
        per_device_train_batch_size=training.rows,
        gradient_accumulation_steps=recipe.batch // (training.rows * count_processes()),
        learning_rate=recipe.lr,
        lr_scheduler_type=_SCHEDULES.get(recipe.schedule, recipe.schedule),
        warmup_steps=recipe.warmup,
        optim="adamw_torch",
        seed=recipe.seed,
        train_sampling_strategy="sequential",
        eval_strategy="steps",
        eval_steps=recipe.check,
        save_strategy="steps",
        save_steps=recipe.check,
        save_total_limit=2,
        load_best_model_at_end=False,
        metric_for_best_model="loss",
        greater_is_better=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=[],
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        label_names=[],
        use_cpu=training.setting.loaded.device.type == "cpu",
    )


class _Teller(TrainerCallback):
    """Tells how far a training is, lets other work in between two steps, and stops it where it is to stop."""

    def __init__(self, training: Training) -> None:
        self.training, self.watcher = training, find_watcher()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tell what was known before."""
        for entry in state.log_history:
            self._tell(entry)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Let other work go first."""
        self.training.setting.progress(state.global_step, self.training.recipe.until, "Training")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Have a checkpoint at the step to stop at."""
        if state.global_step == self.training.recipe.until:
            control.should_evaluate = control.should_save = control.should_training_stop = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tell the watcher."""
        self._tell(state.log_history[-1])

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Show the variant, and stop where no checkpoint has been better for long."""
        with standing_still():
            self.watcher.checkpoint(state.global_step, self.training.make)
        recipe = self.training.recipe
        if recipe.patience and state.global_step - (state.best_global_step or 0) >= recipe.patience * recipe.check:
            control.should_training_stop = True

    def _tell(self, entry: dict[str, Any]) -> None:
        if record := read_record(
            str(self.training.setting.origin.modifier), self.training.part, self.training.recipe.steps, entry
        ):
            self.watcher.record(record)
