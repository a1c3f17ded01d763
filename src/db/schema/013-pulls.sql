-- Heads that take up, inside a running machine, what lies between them and a layer below: there from before that begins
-- until the graph says so, or it was taken back.
CREATE TABLE pulls (layer_id TEXT PRIMARY KEY, base_id TEXT NOT NULL, machine TEXT NOT NULL, disk TEXT NOT NULL,
  create_time BIGINT NOT NULL);
