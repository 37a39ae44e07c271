"""Watching a splat form: a viser page with the splats, the numbers, pause, stop, export, and a
slider through time.

Needs the extra `viewer`. Without a client connected an update costs a few comparisons; with one,
the time between updates grows with what an update costs, so that training keeps at least seven
eighths of its speed.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gs_ssd.errors import UserError
from gs_ssd.export.clean import VISIBLE, finite
from gs_ssd.export.frames import rotations_from_quaternions
from gs_ssd.export.splats import Splats
from gs_ssd.viewer.guard import Guard, is_loopback
from gs_ssd.viewer.guarded_websockets import guarded_websockets

if TYPE_CHECKING:
    from gs_ssd.assets.base import Asset

log = logging.getLogger(__name__)

SHARE = 1 / 8  #: of the time may go into showing
PAUSE_POLL_S = 0.1
MAGNIFIED = (
    16.0  #: viser sends covariances as halves, too coarse for small splats; so they are sent larger
)


class LiveView:
    """One page for one training run.

    Call `update` after every step, `wait_while_paused` before the next.

    Args:
        prompt: the page's title.
        num_steps: the whole run, for the progress and the time left.
        export: called with the asset of the last step when somebody presses Export; returns what it
            wrote.
        checkpoints: lists the saved ones, oldest first.
        load: reads the splats of one of them (None: its asset has none).
        host, port: where to listen; anything but this machine itself is warned about.
        interval_s: the least time between two updates.

    Raises:
        UserError: viser is missing, or the port cannot be had.
    """

    def __init__(
        self,
        *,
        prompt: str,
        num_steps: int,
        export: "Callable[[Asset], Path] | None" = None,
        checkpoints: Callable[[], Sequence[Path]] = tuple,
        load: Callable[[Path], Splats | None] | None = None,
        host: str = "127.0.0.1",
        port: int = 8080,
        interval_s: float = 0.5,
    ) -> None:
        try:
            import viser
        except ImportError as error:
            raise UserError("the live view needs viser: pip install 'gs-ssd[viewer]'") from error
        self.num_steps, self.interval_s = num_steps, interval_s
        self._export, self._checkpoints, self._load = export, checkpoints, load
        self._lock = threading.Lock()
        self._due = self._last_poll = 0.0
        self._started: tuple[float, int] | None = None
        self._export_wanted = False
        self._latest: Asset | None = None
        self.paused = False
        self.stop_requested = False
        _check_address(host, port)
        with guarded_websockets(Guard(host)) as used:
            self._server = viser.ViserServer(host=host, port=port, label=prompt, verbose=False)
        if not used.is_set():
            self._server.stop()
            raise UserError(
                "the live view cannot check who asks with this viser; pip install 'gs-ssd[viewer]'"
                " again"
            )
        self.url = f"http://{host}:{self._server.get_port()}"
        if not is_loopback(host):
            log.warning(
                "the live view at %s can be seen and steered by anyone who reaches this machine",
                self.url,
            )
        self._server.scene.set_up_direction("+z")
        self._server.on_client_connect(self._welcome)
        self._build(prompt)

    def update(self, step: int, asset: "Asset", metrics: Mapping[str, Any]) -> None:
        """Show the state after `step` (counted from 0), if somebody looks and it is time to."""
        self._latest = asset
        now = time.monotonic()
        self._started = self._started or (now, step)
        if now < self._due:
            return
        if self._export_wanted:
            self._run_export()
        if not self._server.get_clients():
            self._due = now + self.interval_s
            return
        self._text.content = self._describe(step, asset.counts(), metrics, now)
        self._progress.value = min(100.0, 100.0 * (step + 1) / max(self.num_steps, 1))
        self._offer_checkpoints()
        if self._is_live():
            self._show(asset.splats())
        cost = time.monotonic() - now
        self._due = now + cost + max(self.interval_s, cost / SHARE)

    def wait_while_paused(self, unless: Callable[[], bool] = lambda: False) -> None:
        """Return when training may continue: at once, after Continue or Stop, or as soon as
        `unless` says so."""
        while self.paused and not self.stop_requested and not unless():
            if self._export_wanted:
                self._run_export()
            time.sleep(PAUSE_POLL_S)

    def close(self) -> None:
        """End the page."""
        self._server.stop()

    def __enter__(self) -> "LiveView":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _build(self, prompt: str) -> None:
        gui = self._server.gui
        gui.configure_theme(show_logo=False, show_share_button=False)
        gui.add_markdown(f"**{_plain(prompt)}**")
        self._progress = gui.add_progress_bar(0.0)
        self._text = gui.add_markdown("waiting for the first step")
        self._pause = gui.add_button("Pause")
        self._stop = gui.add_button("Stop and save", color="red")
        self._save = gui.add_button("Export", visible=self._export is not None)
        self._slider: Any = None
        self._paths: list[Path] = []
        self._pause.on_click(lambda _: self._toggle())
        self._stop.on_click(lambda _: self._ask_to_stop())
        self._save.on_click(lambda _: setattr(self, "_export_wanted", True))

    def _toggle(self) -> None:
        self.paused = not self.paused
        self._pause.label = "Continue" if self.paused else "Pause"

    def _ask_to_stop(self) -> None:
        self.stop_requested = True
        self._stop.label, self._stop.disabled = "Stopping…", True

    def _run_export(self) -> None:
        """On the training's thread, so that nobody changes the asset meanwhile."""
        self._export_wanted = False
        if self._export is None or self._latest is None:
            return
        try:
            self._save.label = f"Exported {self._export(self._latest).name}"
        except UserError as error:
            self._save.label = "Export failed"
            log.warning("export from the live view: %s", error)

    def _offer_checkpoints(self) -> None:
        """A slider once there is something to slide through; its right end is now."""
        if self._load is None:
            return
        paths = list(self._checkpoints())
        if paths == self._paths:
            return
        live = self._is_live()
        with self._lock:
            self._paths = paths
        if self._slider is not None:
            self._slider.remove()
        marks = ((0, paths[0].stem), (len(paths), "now")) if paths else ((0, "now"),)
        self._slider = self._server.gui.add_slider(
            "Checkpoint",
            0,
            max(len(paths), 1),
            1,
            len(paths) if live else 0,
            marks=marks,
            visible=bool(paths),
        )
        self._slider.on_update(lambda _: self._show_checkpoint())

    def _is_live(self) -> bool:
        return self._slider is None or self._slider.value >= len(self._paths)

    def _show_checkpoint(self) -> None:
        with self._lock:
            paths = self._paths
        if self._load is None or self._is_live():
            self._due = 0.0
            return
        try:
            self._show(self._load(paths[int(self._slider.value)]))
        except (UserError, IndexError) as error:
            log.warning("the live view cannot show this checkpoint: %s", error)

    def _show(self, splats: Splats | None) -> None:
        if splats is None:
            return
        splats = splats.take(finite(splats) & (splats.opacities >= VISIBLE))
        half = rotations_from_quaternions(splats.unit_quats_wxyz) * splats.scales[:, None, :]
        self._server.scene.add_gaussian_splats(
            "/splat",
            centers=splats.means * MAGNIFIED,
            covariances=(half @ half.transpose(0, 2, 1) * MAGNIFIED**2).clip(-6e4, 6e4),
            rgbs=splats.colors.clip(0, 1),
            opacities=splats.opacities[:, None],
            scale=1 / MAGNIFIED,
        )

    def _describe(
        self, step: int, counts: Mapping[str, int], metrics: Mapping[str, Any], now: float
    ) -> str:
        rows = [f"step {step + 1} of {self.num_steps}"]
        rows += [f"{count} {name.removeprefix('num_')}" for name, count in counts.items()]
        if "grad_norm" in metrics:
            rows.append(f"gradient norm {float(metrics['grad_norm']):.3g}")
        began, first = self._started or (now, step)
        if step > first:
            left = (now - began) / (step - first) * max(self.num_steps - step - 1, 0)
            rows.append(f"{int(left // 60)} min {int(left % 60):02d} s left")
        return "  \n".join(rows)

    def _welcome(self, client: Any) -> None:
        """A first look at the front, which is at +y; and show something at once."""
        client.camera.position = np.array([0.8, 3.0, 1.0])
        client.camera.look_at = np.zeros(3)
        self._due = 0.0


def _check_address(host: str, port: int) -> None:
    """viser listens in a thread of its own, where a failure would leave this one waiting for ever.

    A port that is taken is no failure: viser takes the next one.

    Raises:
        UserError: no such port, or a host that is not this machine's.
    """
    if not 0 <= port <= 65535:
        raise UserError(
            f"the live view cannot listen on port {port}; choose one in 0..65535 (--viewer-port)"
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError as error:
        raise UserError(
            f"the live view cannot listen on {host} ({error}); choose an address of this machine"
            " (--viewer-host)"
        ) from error


def _plain(text: str) -> str:
    """Words for a Markdown page, without its signs and without links."""
    return "".join(
        character if character not in "\\`*_{}[]()<>#+!|~" else " " for character in text
    ).strip()
