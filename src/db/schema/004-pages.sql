-- The pages of all there is are skipped through, and all there is counted, without a look at the rows themselves.
DROP INDEX images_time;
CREATE INDEX images_time ON images (create_time, image_id, status);
DROP INDEX instances_time;
CREATE INDEX instances_time ON instances (create_time, instance_id, status);
