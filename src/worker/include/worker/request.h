/* SPDX-License-Identifier: Apache-2.0 */
/* What imprint-worker is asked and what it answers. The caller writes the JSON text itself (with
 * wire.h); this page is the agreement.
 *
 *     imprint-worker import    descriptor 3: what comes in; 4: the image, an empty file, read-write
 *     imprint-worker probe     descriptor 3: what came in
 *     imprint-worker fold      descriptor 3: an empty file, read-write; 4, 5 …: layers, read-only,
 *                              the uppermost first
 *     imprint-worker export    descriptor 3: an empty file, read-write; 4, 5, …: the layers of a
 *                              disk, read-only, the one that was written last first
 *     imprint-worker mend      descriptors 3, 4 …: the layers of a disk, head first; the head, a
 *                              qcow2 overlay, is read-write, the others are read-only
 *     imprint-worker inspect   descriptors 3, 4 …: the layers of a disk, head first
 *     imprint-worker plan      the same
 *
 * One JSON object on stdin, which may hold secrets (addresses with passwords), so they are in
 * neither argv nor environment. Every field may be left out; booleans may also be 0 and 1.
 *
 *     {
 *       "kind": "fd",              "fd": descriptor 3 is the file that came in, read-only;
 *                                  "url": it is a staging file, opened read-write, into which the
 * worker fetches. What an earlier attempt left there is gone on with if the server still has the
 * same file (its validator is kept with the file, in the attribute user.imprint.etag) "url":
 * "https://…",        http or https "proxy": "",               "http://host:port" for the fetch
 *       "allow_private": false,    true: the fetch may also go to loopback, private, link-local
 * addresses "format": "",              raw, qcow2, vmdk, vdi, vhd or vhdx; "" = whatever it is
 *       "digest": "",              "sha256:…" or 64 hexadecimal digits, of what came in; "" = not
 * compared "force": false,            true: take a disk that has neither partition table nor boot
 * sector "max_bytes": 0,            limit of the virtual size, and of what comes in; 0 = 64 TiB
 *       "max_ratio": 0,            limit of unpacked to received bytes, above 1 GiB; 0 = 1000
 *       "user": "",                who to become when started by root; "" or unknown = nobody
 *       "backing": "",             fold: the file that the lowest layer stands on; "" = none
 *       "rate": 0,                 fold: bytes of data a second, at most; 0 = 4 GiB
 *       "layers": "qcow2 raw",     inspect: the formats of the descriptors from 3 on; export: of
 * those from 4 on; then "format" is raw, qcow2, raw.zst or vmdk (streamOptimized), and max_bytes
 * that of the file "scratch_dir": ""          a folder for an unnamed temporary file, needed only
 * for compressed files with something else than raw inside
 *     }
 *
 * Answers are messages of wire_worker_*() on stdout, one a line; the last one is result or error,
 * and the exit status 0 or 1 accordingly. Phases of progress: "fetch", "copy", "sync". The result
 * of import:
 *
 *     {"format":"raw","compression":"xz","size_bytes":2147483648,"digest":"sha256:…",
 *      "received_bytes":104857600,"data_bytes":1073741824,"partition_table":"gpt",
 *      "firmware":"bios"}
 *
 * format is what came in (the image at descriptor 4 is always qcow2, and durable); compression is
 * "", "gz", "xz", "zst" or "bz2"; size_bytes is virtual, a multiple of 512; data_bytes is what is
 * kept, in whole clusters; partition_table is "gpt", "mbr" or "none"; firmware is "bios" or "uefi".
 * probe answers
 * {"format","compression","size_bytes","partition_table","firmware","partitions"}, of a compressed
 * file only the first two.
 *
 * fold fills descriptor 3 with a layer that shows what the uppermost does and holds what all hold
 * together, durably, at low priority; its only phase is "fold", in bytes of the disk, and its
 * result
 * {"copied_bytes"}.
 *
 * export answers {"size_bytes","stored_bytes","disk_bytes","data_bytes","digest"}: length of the
 * durable file and what it takes on its file system, size of the disk and what of it is not zeros,
 * and the file's digest. Layers name no backing files that would be looked at.
 *
 * inspect answers with its report: {"size_bytes","partition_table","bios","uefi","os":{…},"errors",
 * "warnings","findings":[{"code","severity","text","hint","repairable"}],"partitions":[…]}; import
 * has the same in "report".
 *
 * plan takes "only" (codes of findings, with blanks in between; "all": each that has a repair) and
 * "seal" (items of guest/repair.h, or "all" of them), and answers with
 * {"report":{…},"plan":{"repairs":[{"code",
 * "done","text"}],"files":[{"path","before","diff"}],"steps":[…],"mounts":[…],"edits":[…]}}: what
 * is changed in words, as unified diffs and as the rest, and mounts and edits as the verb mend
 * takes them. It writes nothing; the same disk gives the same plan. With
 *
 *     "login": {"user": "", "hash": "", "day": 20000, "keys": ["ssh-ed25519 AAAA… name"],
 *               "detach": 0}
 *
 * it plans that the user (""; whom cloud-init would make, or root) has a new password, of which
 * only the hash is told, changed on that day since 1970 (left out: today), and that sshd takes the
 * keys, or with detach no longer takes them. Of this, repairs have the codes "password" and "keys";
 * one that is not done says why. The diff of a file with hashes shows none, its "before" is null,
 * and "secret" is 1; the edits have them. With "trim": 1 its last edits give back the blocks of the
 * system's file systems that hold no file; the code is "trim".
 *
 * mend changes what is inside a disk: a machine of its own (the appliance) mounts its file systems
 * and does the edits one by one; what it writes lands in the head. The first that fails ends it
 * all, with an error: the caller drops the head. It takes "layers" as inspect (the last may be
 * raw), "appliance" (the folder that make-appliance filled), "kvm" (0 or 1), "limit_s" (0 = 60 with
 * KVM, 300 without), and
 *
 *     "mounts": [{"path": "/", "filesystem": "xfs", "options": "subvol=@",
 *                 "pieces": [{"bytes": N, "stripe_bytes": 0, "areas": [byte on the disk]}]}, …]
 *     "edits":  [{"op": "write", "path", "data": base64, "mode", "uid", "gid", "label"},
 *                {"op": "append", "path", "data", "align": 1},
 *                {"op": "remove", "path", "recursive"}, {"op": "empty", "path", "recursive"},
 *                {"op": "link", "path", "target"},
 *                {"op": "copy", "path", "from"}, {"op": "directory", "path", "mode", "uid", "gid"},
 *                {"op": "run", "argv": […], "seconds": 120}, {"op": "raw", "offset", "data"},
 *                {"op": "fstrim", "path"}, {"op": "grow", "path"}]
 *
 * Mounts are in order, the root first; they are made also where there are no edits (a journal is
 * replayed), but after raw edits that come first. A piece with several areas is striped over them.
 * Paths are looked up as in a chroot. Missing folders are made. write, copy and link replace by
 * rename; what is replaced keeps mode, owner and attributes unless they are given; write and copy
 * follow a link that leads to something, and take the place of one that does not. What a new file
 * is not told it gets as 0644, root, and its folder's SELinux label. append writes in place, behind
 * zeros up to a multiple of `align`. remove and empty of what is not there are done with "changed":
 * 0. empty with recursive clears a folder. run is a program of the guest in its own tree, without a
 * network; its status must be 0. Phases: "start", then "mend" in edits. The result:
 *
 *     {"edits":[{"done":1,"changed":0,"bytes":N,"output":"…"}, …],"kernel":"6.1.0","seconds":4.5}
 *
 * changed only where nothing was to do, bytes of fstrim (given back) and grow (the new size),
 * output of run (64 KiB at most). The head is durable then. After an fstrim there is "freed_bytes",
 * too: what layers below the head hold and the disk no longer shows.
 *
 * SIGTERM ends it at once: it makes no names in the file system, so nothing is left behind but what
 * the caller opened. A warning about a weak sandbox comes as a log message. */
#ifndef WORKER_REQUEST_H
#define WORKER_REQUEST_H

enum { WORKER_FD_SOURCE = 3, WORKER_FD_IMAGE = 4 };
enum { WORKER_FD_FOLDED = 3, WORKER_FD_LAYERS = 4, WORKER_LAYERS_MAX = 32 };
enum { WORKER_FD_EXPORT = 3 };

#endif
