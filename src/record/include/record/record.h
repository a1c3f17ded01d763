/* SPDX-License-Identifier: Apache-2.0 */
/* Objects of model/ kept in db/: one generic set of verbs over the field tables, so no room above
 * writes SQL for plain reading and writing. Every function works inside the caller's transaction if
 * one is open on `conn`, else by itself. */
#ifndef RECORD_RECORD_H
#define RECORD_RECORD_H

#include "db/db.h"
#include "model/model.h"

/* *ret_object is the caller's (object_free). IM_NOT_FOUND "image img-x does not exist" if there is
 * none. */
bool record_get(struct db_conn *conn, const struct object_type *type, const char *key,
                void *ret_object, struct im_err *err) IM_MUST_CHECK;

/* The objects that match; *ret_objects is an array of pointers, freed with record_list_free.
 * ret_total (may be NULL) is the number of matches before offset and limit. Unknown field names in
 * the query are our own mistake (assert); a value that does not fit its field (a word that is no
 * enum word, a text where an integer belongs) equals nothing: IN it matches nothing, NOT IN it
 * everything, NULL too. IM_BAD_MESSAGE for more than 32,000 values. */
bool record_list(struct db_conn *conn, const struct object_type *type, const struct query *query,
                 void ***ret_objects, size_t *ret_count, int64_t *ret_total,
                 struct im_err *err) IM_MUST_CHECK;
void record_list_free(const struct object_type *type, void **objects, size_t count);

/* IM_EXISTS if the key is taken. */
bool record_insert(struct db_conn *conn, const struct object_type *type, const void *object,
                   struct im_err *err) IM_MUST_CHECK;
/* Writes all fields of the object. IM_NOT_FOUND if the key is not there. */
bool record_update(struct db_conn *conn, const struct object_type *type, const void *object,
                   struct im_err *err) IM_MUST_CHECK;
/* Writes only the fields named (NULL-terminated list). IM_NOT_FOUND if the key is not there. */
bool record_update_fields(struct db_conn *conn, const struct object_type *type, const void *object,
                          const char *const names[], struct im_err *err) IM_MUST_CHECK;
/* Deleting what is not there is fine. */
bool record_delete(struct db_conn *conn, const struct object_type *type, const char *key,
                   struct im_err *err) IM_MUST_CHECK;
/* How many match, without reading them. */
bool record_count(struct db_conn *conn, const struct object_type *type, const struct query *query,
                  int64_t *ret_count, struct im_err *err) IM_MUST_CHECK;

#endif
