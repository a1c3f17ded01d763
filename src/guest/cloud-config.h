/* SPDX-License-Identifier: Apache-2.0 */
/* What cloud-init will do when a machine starts, by its own configuration. */
#ifndef CLOUD_CONFIG_H
#define CLOUD_CONFIG_H

#include "system.h"

#define CLOUD_CONFIG "/etc/cloud/cloud.cfg"
#define CLOUD_FOLDER "/etc/cloud/cloud.cfg.d"
#define CLOUD_CONFIG_BSD "/usr/local" CLOUD_CONFIG
#define CLOUD_FOLDER_BSD "/usr/local" CLOUD_FOLDER

struct cloud {
    bool present, runs;
    bool grows_partition, grows_filesystem; /* of the root, as far as it can */
    char off[160];     /* why it does not run; "" where it does, or is not there */
    char sources[256]; /* that it is limited to, with blanks between; "" = it looks itself */
    char sources_file[160];
    char user[40];
};

/* `cmdline` may be "". */
void cloud_take(const struct tree *tree, const struct guest_os *os, const char *cmdline,
                struct cloud *ret_cloud);
/* Tells what will not work: of cloud-init and of the guest agent. */
void agents_check(struct look *look, const struct tree *tree, const struct cloud *cloud);

#endif
