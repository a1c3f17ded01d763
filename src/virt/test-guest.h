/* SPDX-License-Identifier: Apache-2.0 */
/* The guest of 512 bytes as the tests on real QEMU use it: machine i-nano, an overlay on a disk
 * with its boot sector, in the test's folder. */
#ifndef VIRT_TEST_GUEST_H
#define VIRT_TEST_GUEST_H

#include <sys/types.h>

#include "virt/virt.h"

/* Without KVM, on a busy machine. */
enum { GUEST_PATIENCE_MS = 180000 };

extern const char *guest_folder, *guest_base, *guest_head, *guest_next, *guest_state_dir,
    *guest_log;
extern const char *guest_user; /* who machines run as; "" = as we do */

/* `pids`: where below the folder libvirt keeps the ids of QEMU's processes. */
void guest_set_paths(const char *folder, const char *pids);
bool guest_make_disk(const char *nano);
/* qemu-img create -b, for the machines' user. */
bool guest_overlay(const char *path, const char *backing, const char *format);
/* Starts it from `head` (guest_head, or guest_next on it). */
bool guest_start(struct virt *virt, const char *head, struct im_err *err) IM_MUST_CHECK;
/* Its console's log, or the file, comes to hold `what`. */
bool guest_said(const char *what);
bool guest_file_has(const char *path, const char *what);
/* Reads until `what` came. */
bool guest_hears(int fd, const char *what);
/* QEMU's process, 0 if unknown; and its end, for the end of a test however it comes. */
pid_t guest_pid(void);
void guest_kill(void);
bool guest_have(const char *program);

#endif
