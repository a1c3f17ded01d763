-- What machines used: one row per resource, grain and block of time; data is text, see src/cloud/monitor-series.c.
CREATE TABLE monitor_blocks (resource_id TEXT NOT NULL, step BIGINT NOT NULL, start BIGINT NOT NULL,
    data TEXT NOT NULL, PRIMARY KEY (resource_id, step, start));
CREATE INDEX monitor_blocks_age ON monitor_blocks (step, start);
