"""Word lists of the generator."""

NAMES = """Anna Ben Clara David Elena Felix Grace Hugo Ida Jonas Karin Leo Maria Nils Olga Paul Rosa Simon Tara Victor Wendy Yusuf
Zoe Adam Bella Carl Diana Emil Fiona George Hanna Ivan Julia Kurt Laura Martin Nina Oscar Petra Quentin Rita Stefan Thea Umar Vera
Walter Xenia Yara Zack Alice Bruno Celia Dario Edith Frank Gina Henry Iris Jack Kira Lukas Mona Noah Olivia Peter Rachel Samuel Tina
Ulrich Vanessa William Amir Beatrice Conrad Dora Ethan Flora Gustav Helen Igor Jasmine Kevin Linda Milo Nadia Otto Pia Ralf Sofia
Thomas Ursula Viktor Wanda Abdul Brigit Chen Dmitri Esther Fatima Gabriel Hiro Ingrid Jamal Keiko Lars Mei Nora Omar Priya Raj Sara
Tomas Uma Valentin Ying Arthur Boris Carmen Dennis Emma Fred Greta Harold Irene James Kate Louis Mary Nicholas Olaf Pablo Ruth Sven
Teresa Vincent Agnes Bernard Charlotte Daniel Eva Florian Gloria Hector Isabel Jacob Klara Leonard Margaret Nathan Ophelia Philip
Rebecca Sebastian Theodore Veronica Winston Alma Basil Cora Duncan Elsa Fergus Gwen Hazel Ian Joan Kai Lena Max Nell Owen Pearl Robin
Stella Toby Violet Wilma""".split()

COLOURS = """red blue green yellow black white brown orange purple pink grey silver golden turquoise violet crimson beige olive navy
ivory""".split()

ANIMALS = """mule horse donkey dog cat fox wolf bear otter rabbit mouse owl eagle goose duck hen cow goat sheep pig deer moose lion
tiger panda monkey camel turtle snake frog toad lizard whale dolphin seal shark trout salmon crab bee ant spider beetle butterfly
swan crow raven sparrow heron parrot penguin badger beaver hedgehog squirrel hamster zebra giraffe llama bison""".split()

FOODS = """bread cheese soup rice pasta pizza salad apples pears plums cherries grapes bananas oranges lemons berries honey butter
eggs fish beans lentils potatoes carrots onions tomatoes spinach mushrooms cake pie pancakes waffles chocolate nuts olives noodles
dumplings curry porridge yoghurt""".split()

DRINKS = "tea coffee water milk juice cocoa lemonade cider soda broth".split()

CITIES = """Oslo Paris London Rome Madrid Lisbon Berlin Vienna Prague Warsaw Athens Dublin Helsinki Stockholm Copenhagen Brussels
Amsterdam Zurich Geneva Milan Venice Naples Seville Porto Lyon Hamburg Munich Krakow Budapest Sofia Riga Tallinn Vilnius Reykjavik
Boston Chicago Denver Seattle Austin Toronto Montreal Havana Lima Quito Bogota Santiago Cairo Tunis Nairobi Lagos Accra Delhi Mumbai
Tokyo Osaka Kyoto Seoul Taipei Hanoi Bangkok Jakarta Manila Sydney Perth Auckland Istanbul Ankara Tehran Baghdad""".split()

JOBS = """baker teacher doctor nurse farmer painter writer singer pilot sailor carpenter plumber lawyer judge librarian gardener cook
tailor engineer chemist miner driver guard clerk dentist fisher potter weaver smith shepherd actor dancer""".split()

THINGS = """box bag key lamp cup bowl plate knife spoon rope ladder hammer saw nail coat hat scarf glove boot ring coin clock watch
book map letter pen candle basket bottle jar drum flute violin mirror chair table bed door window wheel cart boat kite ball doll
umbrella blanket pillow bell lantern compass shovel bucket broom needle button ribbon""".split()

PLACES = """kitchen garden cellar attic barn forest village market harbour library school church castle tower bridge river lake
mountain valley beach island desert meadow field cave mine station workshop bakery museum hospital garage office""".split()

HOBBIES = """chess painting running swimming reading cooking singing dancing fishing sailing cycling climbing knitting gardening
skating writing drawing hiking rowing photography""".split()

ADJECTIVES = """big small old new tall short heavy light bright dark quiet loud warm cold dry wet clean dirty brave clever kind proud
lazy hungry tired happy sad angry gentle curious patient careful strange famous lonely rich poor young strong weak""".split()

VERBS = """open close find send get set add remove check start stop move copy print read write book cancel order count play pause
rename show hide lock unlock share save load update schedule measure translate convert search create delete""".split()

NOUNS = """file door ticket table room order song light report message email invoice user account meeting flight train hotel package
photo video note task event alarm timer price stock garden robot camera printer window folder page contact recipe map route sensor
heater fan pump gate""".split()

WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen twenty""".split()

ALL = sorted({*COLOURS, *ANIMALS, *FOODS, *DRINKS, *JOBS, *THINGS, *PLACES, *HOBBIES, *ADJECTIVES, *VERBS, *NOUNS})
