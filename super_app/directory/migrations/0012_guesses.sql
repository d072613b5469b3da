-- How many guesses at names somebody has made: for homeservers of several processes, which count together. Each guess
-- moves spent_until_ms on by what one costs; whoever is too far ahead of the clock waits. With one process it stays
-- empty.
CREATE TABLE superapp_directory_guesses (
    budget TEXT NOT NULL,
    asker TEXT NOT NULL,
    spent_until_ms BIGINT NOT NULL,
    PRIMARY KEY (budget, asker)
);
CREATE INDEX superapp_directory_guesses_until ON superapp_directory_guesses (spent_until_ms);
