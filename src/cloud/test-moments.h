/* SPDX-License-Identifier: Apache-2.0 */
/* Every call that the cloud and its jobs make to the rooms below is a moment that a test can
 * choose: the call fails there, or the process dies there, before the call or after it took effect.
 * The linker leads the calls here (--wrap), so no room knows of it. */
#ifndef CLOUD_TEST_MOMENTS_H
#define CLOUD_TEST_MOMENTS_H

#include <pthread.h>
#include <stdbool.h>

#include "base/err.h"

enum moment_end { MOMENT_FAILS, MOMENT_KILLS };

struct moments {
    unsigned at; /* number of the chosen call, from 1; 0 = none */
    bool after;
    enum moment_end end;
    enum im_code code; /* of the failure, but what the record itself fails with */
    pthread_t main;    /* counts between moments_enter and moments_leave only */
    pthread_t exempt;  /* the background, unless it counts too */
    bool background_too;
};
/* Counts anew from here. */
void moments_arm(const struct moments *moments);
/* Calls since then; ends the counting. */
unsigned moments_disarm(void);
/* What the chosen call was: "storage_clone"; "" if it never came. */
const char *moments_what(void);
/* Calls of the main thread count in between. */
void moments_enter(void);
void moments_leave(void);

/* Statements of the main thread since the last call. */
unsigned moments_statements(void);
/* So many presses of power buttons go unheard from now on, and how many of them are left (less than
 * 0: later ones were heard). */
void moments_deaf(int presses);
int moments_presses_left(void);

/* Machines that run, with the disks they have, by what was seen of the calls that change them; also
 * for a process that inherits this one's memory map: they outlive the process that started them. */
enum { MOMENT_MACHINES = 16, MOMENT_DISKS = 6 };
struct moment_machine {
    char name[64]; /* "" = free */
    struct {
        char serial[64], path[256];
    } disks[MOMENT_DISKS];
};
struct moment_machines {
    struct moment_machine items[MOMENT_MACHINES];
};
extern struct moment_machines *moment_machines; /* NULL: not kept */

/* The call after the n-th at which a verb is to be disturbed. Each one in a long run; otherwise the
 * first ones, then every fifth, and not the same ones for each verb: verbs share most of their
 * calls. */
unsigned moment_next(unsigned n, size_t verb);
/* Takes the word "all" off the arguments: each call, then. */
void moments_all(int *argc, char **argv);

#endif
