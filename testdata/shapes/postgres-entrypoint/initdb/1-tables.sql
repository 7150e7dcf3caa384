CREATE TABLE harbour (name text PRIMARY KEY, depth numeric NOT NULL);
