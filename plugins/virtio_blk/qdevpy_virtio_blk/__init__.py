# SPDX-License-Identifier: Apache-2.0
"""virtio-blk: a disk (virtio 1.2, section 5.2). README.md beside this package has the properties and limits."""
