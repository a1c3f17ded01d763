/* SPDX-License-Identifier: Apache-2.0 */
/* Names and descriptions: what every Modify…Attributes changes, at once and in any state. */
#include "cloud-private.h"

enum { NAME_MAX_BYTES = 255, DESCRIPTION_MAX_BYTES = 1000 };

bool attributes_fit(const struct object_type *type, const struct attributes *attributes,
                    struct im_err *err) {
    return text_fits(type->title, attributes->name, NAME_MAX_BYTES, err) &&
           text_fits("description", attributes->description, DESCRIPTION_MAX_BYTES, err);
}

void attributes_set(const struct object_type *type, void *object,
                    const struct attributes *attributes) {
    if (attributes->name != NULL)
        im_replace(field_text(object_field(type, type->title), object), attributes->name);
    if (attributes->description != NULL)
        im_replace(field_text(object_field(type, "description"), object),
                   *attributes->description ? attributes->description : NULL);
}

struct modify {
    const struct caller *caller;
    const struct object_type *type;
    attributes_load *load;
    const char *id;
    const struct attributes *attributes;
};

static bool modify_body(struct db_conn *conn, void *arg, struct im_err *err) {
    const struct modify *modify = arg;
    const char *const names[] = {modify->type->title, "description", NULL};
    void *object = NULL;
    bool modified;

    if (!modify->load(conn, modify->caller, modify->id, &object, err))
        return false;
    attributes_set(modify->type, object, modify->attributes);
    modified = record_update_fields(conn, modify->type, object, names, err);
    object_free(modify->type, object);
    return modified;
}

bool attributes_modify(struct cloud *cloud, const struct caller *caller,
                       const struct object_type *type, attributes_load *load, const char *id,
                       const struct attributes *attributes, struct im_err *err) {
    struct modify modify = {caller, type, load, id, attributes};

    if (im_str_empty(id))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [%s] is missing", type->name);
    return attributes_fit(type, attributes, err) &&
           cloud_transact(cloud, modify_body, &modify, err);
}
