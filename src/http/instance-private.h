/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs of instances, between the table in instance.c and instance-verb.c. */
#ifndef HTTP_INSTANCE_PRIVATE_H
#define HTTP_INSTANCE_PRIVATE_H

#include "http-private.h"

#define INSTANCE_VERB(verb)                                                                        \
    extern const struct http_param verb##_params[];                                                \
    bool verb(struct request *request, struct im_err *err)
INSTANCE_VERB(run_instances);
INSTANCE_VERB(start_instances);
INSTANCE_VERB(stop_instances);
INSTANCE_VERB(restart_instances);
INSTANCE_VERB(terminate_instances);
INSTANCE_VERB(cease_instances);
INSTANCE_VERB(resize_instances);
INSTANCE_VERB(reset_instances);
INSTANCE_VERB(reset_password);
INSTANCE_VERB(modify_instance);
INSTANCE_VERB(clone_instances);

#endif
