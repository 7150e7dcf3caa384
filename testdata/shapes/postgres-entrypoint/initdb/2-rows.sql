INSERT INTO harbour VALUES ('Bergen', 11.5), ('Stavanger', 9), ('Tromsø', 10.25);
