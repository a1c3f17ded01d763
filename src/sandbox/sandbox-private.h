/* SPDX-License-Identifier: Apache-2.0 */
/* The belts, one function each; sandbox.c says in which order. A belt that cannot be fastened says
 * why and returns false. */
#ifndef SANDBOX_PRIVATE_H
#define SANDBOX_PRIVATE_H

#include "sandbox/sandbox.h"

struct belt_why {
    char *text;
    size_t size;
};

#define SANDBOX_KVM "/dev/kvm"

/* The paths a policy stands for: its own lists and what exec and resolve imply. */
#define SANDBOX_PATHS 48
struct sandbox_paths {
    const char *readable[SANDBOX_PATHS];
    const char *writable[SANDBOX_PATHS];
    size_t readable_count, writable_count;
};
bool paths_collect(const struct sandbox_policy *policy, struct sandbox_paths *paths,
                   struct im_err *err);

/* Namespaces with a root that holds only the paths. As root it needs no user namespace. */
bool belt_namespaces(const struct sandbox_policy *policy, const struct sandbox_paths *paths,
                     struct belt_why *why);
/* Landlock; also TCP where the kernel can and the policy has no network. */
bool belt_landlock(const struct sandbox_policy *policy, const struct sandbox_paths *paths,
                   unsigned *ret_abi, bool *ret_tcp, struct belt_why *why);
/* seccomp: a list of what is allowed, or with `exec` a list of what is not. */
bool belt_syscalls(const struct sandbox_policy *policy, struct belt_why *why);

bool belt_missing(struct belt_why *why, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
