/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. */
#ifndef VIRT_PRIVATE_H
#define VIRT_PRIVATE_H

#include "virt/virt.h"

/* The machine as libvirt's domain XML, owned. `kvm`: hardware virtualisation, else TCG with a
 * translation cache of tb_cache_mib. console is the folder of logs and sockets. */
char *domain_xml(const struct virt_machine *machine, bool kvm, int tb_cache_mib,
                 const char *console);

#endif
