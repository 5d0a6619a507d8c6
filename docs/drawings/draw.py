# SPDX-License-Identifier: Apache-2.0
"""Write the drawings of docs/explanation: ``python docs/drawings/draw.py``. A test checks that they were."""

from __future__ import annotations

from pathlib import Path

from picture import Picture

IMAGES = Path(__file__).resolve().parents[1] / "images"


def draw_notification_path() -> Picture:
    """A kick's two ways, and the way of the interrupt back."""
    picture = Picture(
        860,
        430,
        "A kick goes through an ioeventfd to an I/O thread, or by an exit to the vCPU thread; the interrupt goes back by irqfd",
    )
    picture.lane(10, 10, 840, 92, "guest", "guest")
    picture.lane(10, 118, 840, 92, "KVM", "kvm")
    picture.lane(10, 226, 405, 194, "vCPU thread", "python")
    picture.lane(445, 226, 405, 194, "I/O thread", "c")

    picture.box(150, 40, 190, 48, ["driver writes the", "notify register"], "guest")
    picture.box(610, 40, 190, 48, ["interrupt handler", "takes the used buffers"], "guest")
    picture.box(150, 148, 190, 48, ["is there an ioeventfd", "on this address?"], "kvm")
    picture.box(445, 148, 130, 48, ["signals the", "queue's eventfd"], "kvm")
    picture.box(625, 148, 175, 48, ["irqfd becomes", "an MSI-X message"], "kvm")
    picture.box(150, 258, 190, 48, ["KVM_RUN returns", "qd_space_access()"], "python")
    picture.box(150, 350, 190, 56, ["serves the queue,", "then goes on with the guest"], "python")
    picture.box(460, 258, 200, 48, ["wakes, or polled the ring", "and is there already"], "c")
    picture.box(460, 350, 200, 56, ["pop, submit, complete, push,", "without a line of Python"], "c")

    picture.arrow([(245, 88), (245, 148)])
    picture.arrow([(340, 172), (445, 172)])
    picture.text(392, 164, ["yes"], anchor="middle")
    picture.arrow([(245, 196), (245, 258)])
    picture.text(253, 220, ["no: exit to user space"])
    picture.arrow([(245, 306), (245, 350)])
    picture.arrow([(150, 378), (125, 378), (125, 64), (150, 64)], dashed=True)
    picture.text(30, 325, ["meanwhile", "the guest", "waits"])
    picture.arrow([(558, 196), (558, 258)])
    picture.arrow([(558, 306), (558, 350)])
    picture.arrow([(660, 378), (712, 378), (712, 196)])
    picture.text(720, 320, ["signals the", "vector's eventfd"])
    picture.arrow([(712, 148), (712, 88)])
    picture.arrow([(340, 52), (440, 52)], dashed=True)
    picture.text(346, 44, ["next instruction"])
    picture.text(346, 72, ["with an ioeventfd:", "at once"])
    return picture


def draw_threads_and_locks() -> Picture:
    """Who runs what, and which lock it holds."""
    picture = Picture(860, 330, "Threads of a machine and the locks that each takes")
    picture.lane(10, 10, 270, 310, "vCPU threads", "guest")
    picture.lane(295, 10, 270, 310, "main thread", "python")
    picture.lane(580, 10, 270, 310, "I/O threads", "c")
    for x, tone, first, second in (
        (30, "guest", ["the guest runs,", "no lock, no GIL"], ["register handlers,", "in C and in Python"]),
        (
            315,
            "python",
            ["waits for the next event,", "no lock, no GIL"],
            ["Python queues, timers, monitors,", "back ends, reset, hot plug"],
        ),
        (600, "c", ["wait for kicks and completions,", "or poll the rings"], ["native queues:", "pop, submit, complete, push"]),
    ):
        picture.box(x, 44, 230, 56, first, tone)
        picture.box(x, 146, 230, 56, second, tone)
        picture.arrow([(x + 115, 100), (x + 115, 146)])
    picture.box(30, 250, 515, 48, ["VM lock: one at a time, in the order in which they asked"])
    picture.box(600, 250, 230, 48, ["the queue's lock,", "each queue has its own"])
    picture.arrow([(145, 202), (145, 250)])
    picture.arrow([(430, 202), (430, 250)])
    picture.arrow([(715, 202), (715, 250)])
    picture.arrow([(545, 274), (600, 274)])
    picture.text(152, 230, ["takes"])
    picture.text(437, 230, ["takes"])
    picture.text(722, 230, ["takes"])
    picture.text(573, 244, ["then"], anchor="middle")
    return picture


def draw_split_ring() -> Picture:
    """The three parts of a split virtqueue, in guest memory."""
    picture = Picture(
        860, 300, "A split virtqueue: the available ring names chains of descriptors, the used ring gives them back"
    )
    picture.lane(10, 10, 240, 280, "available ring", "guest")
    picture.lane(265, 10, 330, 280, "descriptors", "plain")
    picture.lane(610, 10, 240, 280, "used ring", "c")
    for row, (left, right) in enumerate((("chain at 0", "0: 512 bytes"), ("chain at 3", ""), ("", ""))):
        picture.box(60, 44 + 44 * row, 140, 36, [left] if left else [], "guest")
        picture.box(660, 44 + 44 * row, 140, 36, [right] if right else [], "c")
    rows = ("0  header, next: 1", "1  data, next: 2", "2  status", "3  header, next: 4", "4  status")
    for row, words in enumerate(rows):
        picture.box(330, 44 + 36 * row, 200, 30, [words])
    picture.arrow([(200, 62), (330, 59)])
    picture.arrow([(200, 106), (330, 167)])
    picture.arrow([(530, 59), (660, 62)])
    picture.text(30, 240, ["The driver writes it,", "the device reads it."])
    picture.text(300, 250, ["The driver writes them; each is an", "address, a length and flags."])
    picture.text(630, 240, ["The device writes it,", "the driver reads it."])
    return picture


#: file: who draws it
DRAWINGS = {
    "notification-path.svg": draw_notification_path,
    "threads-and-locks.svg": draw_threads_and_locks,
    "split-ring.svg": draw_split_ring,
}


def main() -> None:
    """Write them all."""
    IMAGES.mkdir(exist_ok=True)
    for name, draw in DRAWINGS.items():
        (IMAGES / name).write_text(draw().svg())


if __name__ == "__main__":
    main()
