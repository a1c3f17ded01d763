-- Disks that were changed from outside. Columns are the fields of src/model/model.c; `layer_id` keeps what the disk was.
CREATE TABLE repairs (repair_id TEXT PRIMARY KEY, resource_id TEXT NOT NULL, status TEXT NOT NULL, findings TEXT,
    seal TEXT, undoable BIGINT NOT NULL, owner TEXT, job_id TEXT, create_time BIGINT NOT NULL, end_time BIGINT NOT NULL,
    changes TEXT, report TEXT, layer_id TEXT, made_id TEXT);
CREATE INDEX repairs_owner ON repairs (owner, create_time);
CREATE INDEX repairs_time ON repairs (create_time, repair_id);
CREATE INDEX repairs_resource ON repairs (resource_id, create_time);
CREATE INDEX repairs_layer ON repairs (layer_id);
