-- What the clock showed before it leapt. Null if it did not, or if that is settled.
ALTER TABLE retention_clock ADD COLUMN leapt_from_unix_seconds INTEGER;

-- How often an operator confirmed the clock. A running server looks for another number.
ALTER TABLE retention_clock ADD COLUMN confirmations INTEGER NOT NULL DEFAULT 0;
