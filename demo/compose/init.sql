-- What a database administrator prepares; the embedded demo's is in demo/world.ts.
CREATE ROLE alice LOGIN;
CREATE ROLE bob LOGIN;
CREATE DATABASE shop;
