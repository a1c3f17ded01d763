-- What one user sees is counted and listed from an index alone, however much others have; jobs are swept by their age.
DROP INDEX images_owner;
CREATE INDEX images_owner ON images (owner, create_time, image_id, status);
CREATE INDEX images_visible ON images (visibility, create_time, image_id, owner, status);
DROP INDEX instances_owner;
CREATE INDEX instances_owner ON instances (owner, create_time, instance_id, status);
DROP INDEX jobs_owner;
CREATE INDEX jobs_owner ON jobs (owner, create_time, job_id, status);
DROP INDEX jobs_status;
CREATE INDEX jobs_status ON jobs (status, status_time);
