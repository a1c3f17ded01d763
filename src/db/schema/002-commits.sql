-- With PostgreSQL a transaction leaves its mark here, so that one whose answer to COMMIT was lost can be asked after: void
-- is 0 if it was committed, 1 if whoever asked came first and so forbade it. Old marks are swept. SQLite needs none.
CREATE TABLE commits (commit_id TEXT PRIMARY KEY, void BIGINT NOT NULL, commit_time BIGINT NOT NULL);
