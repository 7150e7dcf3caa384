Gem::Specification.new do |gem|
  gem.name = "tide"
  gem.version = "1.0.0"
  gem.summary = "High and low water"
  gem.authors = ["The harbour"]
  gem.files = ["lib/tide.rb"]
end
