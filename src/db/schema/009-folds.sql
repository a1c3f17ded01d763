-- Frozen layers whose file is being replaced by one that stands on `onto_id` (NULL: on nothing) and shows the same. A row
-- is there from before the pool is touched until the graph says so too, or the old file stays.
CREATE TABLE folds (layer_id TEXT PRIMARY KEY, onto_id TEXT, create_time BIGINT NOT NULL);
