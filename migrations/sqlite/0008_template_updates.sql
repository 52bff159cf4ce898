-- Walks that a verification accepted may be kept beside enrolled ones (service::updating).
ALTER TABLE enrollments ADD COLUMN source TEXT NOT NULL DEFAULT 'enrollment'
    CHECK (source IN ('enrollment', 'verification'));

-- Enrollments are counted by both.
DROP INDEX enrollments_by_user;
CREATE INDEX enrollments_by_user ON enrollments (user_id, source);
