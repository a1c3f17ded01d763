#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make-lvm-text.py KIND <BACKUP: what vgcfgbackup says of an empty group of two physical volumes, with a logical volume "root"
of this kind in it: thin, raid1 or cache. Without device mapper LVM's tools make none, but vgcfgrestore takes them, and lvs
shows them as they show those that were made."""
import sys


def volume(name, number, segment, visible=True):
    status = '"READ", "WRITE", "VISIBLE"' if visible else '"READ", "WRITE"'
    return (f'{name} {{\nid = "aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaa{number}"\nstatus = [{status}]\nflags = []\n'
            f'segment_count = 1\nsegment1 {{\nstart_extent = 0\n{segment}\n}}\n}}\n')


def linear(name, number, pv, first, count):
    return volume(name, number, f'extent_count = {count}\ntype = "striped"\nstripe_count = 1\n'
                                f'stripes = [\n"{pv}", {first}\n]', visible=False)


KINDS = {
    "thin": volume("root", 1, 'extent_count = 16\ntype = "thin"\nthin_pool = "pool"\ntransaction_id = 0\ndevice_id = 1') +
    volume("pool", 2, 'extent_count = 8\ntype = "thin-pool"\nmetadata = "pool_tmeta"\npool = "pool_tdata"\n'
                      'transaction_id = 1\nchunk_size = 128\ndiscards = "passdown"\nzero_new_blocks = 1') +
    linear("pool_tmeta", 3, "pv0", 0, 1) + linear("pool_tdata", 4, "pv0", 1, 8),
    "raid1": volume("root", 1, 'extent_count = 4\ntype = "raid1"\ndevice_count = 2\nregion_size = 4096\n'
                               'raids = [\n"root_rmeta_0", "root_rimage_0",\n"root_rmeta_1", "root_rimage_1"\n]') +
    linear("root_rmeta_0", 2, "pv0", 0, 1) + linear("root_rimage_0", 3, "pv0", 1, 4) +
    linear("root_rmeta_1", 4, "pv1", 0, 1) + linear("root_rimage_1", 5, "pv1", 1, 4),
    "cache": volume("root", 1, 'extent_count = 4\ntype = "cache"\ncache_pool = "fast"\norigin = "root_corig"') +
    volume("fast", 2, 'extent_count = 2\ntype = "cache-pool"\ndata = "fast_cdata"\nmetadata = "fast_cmeta"\n'
                      'chunk_size = 128\nmetadata_format = 2\ncache_mode = "writethrough"\npolicy = "smq"', visible=False) +
    linear("root_corig", 3, "pv0", 0, 4) + linear("fast_cdata", 4, "pv1", 0, 2) + linear("fast_cmeta", 5, "pv1", 2, 2),
}
text = sys.stdin.read()
end = text.rindex("}")
print(text[:end] + "logical_volumes {\n" + KINDS[sys.argv[1]] + "}\n}")
