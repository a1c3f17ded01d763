-- Files that users download. Columns are the fields of src/model/model.c.
CREATE TABLE image_exports (export_id TEXT PRIMARY KEY, image_id TEXT NOT NULL, format TEXT NOT NULL,
    status TEXT NOT NULL, size_bytes BIGINT NOT NULL, disk_bytes BIGINT NOT NULL,
    stored_bytes BIGINT NOT NULL, digest TEXT, owner TEXT, job_id TEXT, create_time BIGINT NOT NULL,
    expire_time BIGINT NOT NULL, layer_id TEXT);
CREATE INDEX image_exports_owner ON image_exports (owner, create_time);
CREATE INDEX image_exports_time ON image_exports (create_time, export_id);
CREATE INDEX image_exports_layer ON image_exports (layer_id);
