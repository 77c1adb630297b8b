"""Notebook kernels whose start and end are noticed at once.

Rule: jupyter_client looks for a kernel's end ten times a second, for its sockets as often, and listens for 0.2 s for more
once the kernel has answered. A run starts hundreds of kernels. What answers no cell nbclient leaves out by itself.
"""

import time
from contextlib import suppress
from queue import Empty

import zmq
import zmq.asyncio
from jupyter_client import AsyncKernelClient, AsyncKernelManager
from traitlets import default

__all__ = ["QuickClient", "QuickManager"]

_TURN = 0.01  # seconds between two looks


class QuickClient(AsyncKernelClient):
    """Is ready as soon as the kernel has answered on both channels."""

    async def wait_for_ready(self, timeout: float | None = None) -> None:
        """Wait until the kernel answers.

        Raises:
            RuntimeError: if it died, or does not answer in `timeout` seconds.
        """
        end = time.monotonic() + (timeout or float("inf"))
        while True:
            self.kernel_info()
            with suppress(Empty):
                reply = await self.shell_channel.get_msg(timeout=1)
                if reply["msg_type"] == "kernel_info_reply":
                    await self.iopub_channel.get_msg(timeout=0.2)  # it is connected, too; else all is asked again
                    self._handle_kernel_info_reply(reply)
                    return
            if not await self.is_alive():
                raise RuntimeError("Kernel died before replying to kernel_info")
            if time.monotonic() > end:
                raise RuntimeError(f"Kernel didn't respond in {timeout} seconds")


class QuickManager(AsyncKernelManager):
    """Looks for the kernel's end, and for its sockets, a hundred times a second."""

    def client(self, **kwargs) -> QuickClient:
        """Return a client; nbclient has set the usual class."""
        self.client_factory = QuickClient
        return super().client(**kwargs)

    @default("context")
    def _context_default(self) -> zmq.asyncio.Context:
        context = super()._context_default()
        context.setsockopt(zmq.RECONNECT_IVL, round(1000 * _TURN))
        return context

    async def _async_wait(self, pollinterval: float = _TURN) -> None:
        await super()._async_wait(min(pollinterval, _TURN))
